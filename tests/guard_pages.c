/* Loaded before the C library (LD_PRELOAD): every block of posix_memalign, which is where compiled code's tensors lie,
 * touches a page that may not be read or written. An access outside of a tensor ends the process with SIGSEGV, and so
 * does one after the tensor is freed, as no address is used twice.
 *
 * The guarded page follows the block, or precedes it when GUARD_BEFORE is set. Blocks begin at multiples of the
 * alignment asked for, so an overrun that ends before the next such multiple isn't seen.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096 };
static const size_t ARENA = (size_t)1 << 38;

extern void __libc_free(void*);

static char* arena;
static uint32_t* pages_of; /* of the block that begins in each of the arena's pages */
static atomic_size_t used;
static int before;

static void* reserve(size_t size, int access) {
  void* memory = mmap(NULL, size, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

__attribute__((constructor)) static void begin(void) {
  pages_of = reserve(ARENA / PAGE * sizeof *pages_of, PROT_READ | PROT_WRITE);
  before = getenv("GUARD_BEFORE") != NULL;
  arena = reserve(ARENA, PROT_NONE);
}

int posix_memalign(void** result, size_t alignment, size_t size) {
  size_t pages = (size + PAGE - 1) / PAGE;
  if (arena == NULL || pages_of == NULL || alignment > PAGE) return EINVAL;
  /* The page before is the one after the last block; an empty block is nothing but guarded pages. */
  char* block = arena + PAGE + atomic_fetch_add(&used, (pages + 1) * PAGE);
  if (block + (pages + 1) * PAGE > arena + ARENA) return ENOMEM;
  if (mprotect(block, pages * PAGE, PROT_READ | PROT_WRITE) != 0) return ENOMEM;
  memset(block, 0xCB, pages * PAGE); /* what is read before it is written is no plausible number */
  pages_of[(block - arena) / PAGE] = (uint32_t)pages;
  *result = before ? block : block + (pages * PAGE - size) / alignment * alignment;
  return 0;
}

void free(void* pointer) {
  char* block = pointer;
  if (arena == NULL || block < arena || block >= arena + ARENA) {
    __libc_free(pointer);
    return;
  }
  block -= (uintptr_t)block % PAGE;
  size_t size = (size_t)pages_of[(block - arena) / PAGE] * PAGE;
  madvise(block, size, MADV_DONTNEED);
  mprotect(block, size, PROT_NONE);
}
