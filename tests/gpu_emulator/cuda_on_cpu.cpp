#include "cuda_on_cpu.h"

uint3_ threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {
std::vector<Fiber> fibers;
size_t running;
unsigned char slots[1024][16];
unsigned operands[1024][6];

static ucontext_t scheduler;
static const std::function<void()>* body;
static const size_t STACK = 1 << 18;

static void enter() {
  (*body)();
  fibers[running].state = DONE;
  swapcontext(&fibers[running].context, &scheduler);
}

void give_way(State state) {
  if (fibers.empty()) {
    fprintf(stderr, "a kernel without barriers gave way\n");
    abort();
  }
  fibers[running].state = state;
  swapcontext(&fibers[running].context, &scheduler);
}

static uint3_ place(size_t flat, const unsigned* size) {
  return {(unsigned)(flat % size[0]), (unsigned)(flat / size[0] % size[1]), (unsigned)(flat / size[0] / size[1])};
}

static void run_block(size_t threads, const unsigned* block) {
  static const bool reverse = getenv("EMULATOR_REVERSE") != nullptr;
  while (fibers.size() < threads) fibers.push_back({{}, (char*)malloc(STACK), READY, {}});
  fibers.resize(threads);
  for (size_t i = 0; i < threads; i++) {
    Fiber& fiber = fibers[i];
    fiber.state = READY;
    fiber.index = place(i, block);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
  }
  for (size_t done = 0, waiting = 0; done < threads;) {
    for (size_t turn = 0; turn < threads; turn++) {
      size_t i = reverse ? threads - 1 - turn : turn;
      if (fibers[i].state != READY) continue;
      running = i;
      threadIdx = fibers[i].index;
      swapcontext(&scheduler, &fibers[i].context);
      done += fibers[i].state == DONE;
      waiting += fibers[i].state == BARRIER;
    }
    // On a GPU threads that have ended count as having arrived.
    if (waiting && waiting + done == threads) {
      waiting = 0;
      for (Fiber& fiber : fibers)
        if (fiber.state == BARRIER) fiber.state = READY;
    }
  }
}

void run(const unsigned* grid, const unsigned* block, bool synchronized, const std::function<void()>& kernel) {
  static std::vector<Fiber> kept;
  body = &kernel;
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block[0], block[1], block[2]};
  size_t threads = (size_t)block[0] * block[1] * block[2], blocks = (size_t)grid[0] * grid[1] * grid[2];
  if (threads > 1024) {
    fprintf(stderr, "%zu threads in a block\n", threads);
    abort();
  }
  for (size_t b = 0; b < blocks; b++) {
    blockIdx = place(b, grid);
    if (synchronized) {
      run_block(threads, block);
      continue;
    }
    for (size_t i = 0; i < threads; i++) {
      threadIdx = place(i, block);
      kernel();
    }
  }
  for (Fiber& fiber : fibers) free(fiber.stack);
  fibers.clear();
}
}  // namespace emulator
