/* Measures what this machine can do: fp32 multiply-adds a second, and bytes read a second from a buffer of given size.
 *
 *     limits THREADS BYTES      prints {"gflops": ..., "gbytes": ...}
 *
 * Each is the best of ROUNDS; the threads of a round begin together, and a round lasts until the last has ended.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__AVX512F__)
enum { WIDTH = 64 };
#elif defined(__AVX__)
enum { WIDTH = 32 };
#else
enum { WIDTH = 16 };
#endif
/* More chains than a multiply-add's latency times the two that begin in a cycle, fewer than there are registers. */
enum { CHAINS = 12, ROUNDS = 7 };
#define FLOP_STEPS 3000000L
#define READ_BYTES 400000000.0 /* by each round, so that small buffers are read several times */

typedef float Vector __attribute__((vector_size(WIDTH)));

typedef struct {
  const char* buffer;
  size_t bytes;
  long repeats;
  float result; /* read by main, so that no work is left out */
} Share;

static pthread_barrier_t barrier;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static float sum(Vector vector) {
  float total = 0;
  for (size_t i = 0; i < WIDTH / sizeof(float); ++i) total += vector[i];
  return total;
}

static void* multiply(void* argument) {
  Share* share = argument;
  Vector chains[CHAINS], factor, term;
  for (size_t i = 0; i < WIDTH / sizeof(float); ++i) factor[i] = 0.999999f, term[i] = 1e-6f;
  for (int c = 0; c < CHAINS; ++c) chains[c] = term * (float)c;
  pthread_barrier_wait(&barrier);
  for (long step = 0; step < FLOP_STEPS; ++step) {
#pragma GCC unroll 12
    for (int c = 0; c < CHAINS; ++c) chains[c] = chains[c] * factor + term;
  }
  for (int c = 0; c < CHAINS; ++c) share->result += sum(chains[c]);
  return NULL;
}

static void* read_all(void* argument) {
  Share* share = argument;
  Vector totals[8];
  memset(totals, 0, sizeof totals);
  pthread_barrier_wait(&barrier);
  for (long repeat = 0; repeat < share->repeats; ++repeat) {
    const Vector* from = (const Vector*)share->buffer;
    size_t count = share->bytes / WIDTH / 8;
    for (size_t i = 0; i < count; ++i) {
#pragma GCC unroll 8
      for (int k = 0; k < 8; ++k) totals[k] += from[8 * i + (size_t)k];
    }
    __asm__ volatile("" ::: "memory"); /* the next round reads again */
  }
  for (int k = 0; k < 8; ++k) share->result += sum(totals[k]);
  return NULL;
}

/* Seconds of the fastest round. */
static double best(void* (*work)(void*), Share* shares, int threads) {
  double fastest = 1e30;
  pthread_t* handles = malloc((size_t)threads * sizeof *handles);
  for (int round = 0; round < ROUNDS; ++round) {
    pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
    for (int t = 0; t < threads; ++t) {
      if (pthread_create(&handles[t], NULL, work, &shares[t]) != 0) exit(3);
    }
    double start = now(); /* before, as main may be the last to be woken */
    pthread_barrier_wait(&barrier);
    for (int t = 0; t < threads; ++t) pthread_join(handles[t], NULL);
    double seconds = now() - start;
    if (seconds < fastest) fastest = seconds;
    pthread_barrier_destroy(&barrier);
  }
  free(handles);
  return fastest;
}

int main(int count, char** arguments) {
  int threads = count == 3 ? atoi(arguments[1]) : 0;
  size_t bytes = count == 3 ? strtoull(arguments[2], NULL, 10) : 0;
  size_t unit = 8 * WIDTH, share = threads > 0 ? bytes / (size_t)threads / unit * unit : 0;
  if (share == 0) {
    fprintf(stderr, "usage: limits THREADS BYTES (at least %zu a thread)\n", unit);
    return 2;
  }
  Share* shares = calloc((size_t)threads, sizeof *shares);
  long repeats = (long)(READ_BYTES / (double)share) + 1;
  for (int t = 0; t < threads; ++t) {
    char* buffer = aligned_alloc(64, share);
    if (buffer == NULL) return 3;
    memset(buffer, 0, share);
    shares[t] = (Share){buffer, share, repeats, 0};
  }
  double lanes = WIDTH / sizeof(float);
  double flops = 2.0 * lanes * CHAINS * FLOP_STEPS * threads / best(multiply, shares, threads);
  double read = (double)share * (double)repeats * threads / best(read_all, shares, threads);
  float kept = 0;
  for (int t = 0; t < threads; ++t) kept += shares[t].result;
  printf("{\"gflops\": %.3f, \"gbytes\": %.3f}\n", 1e-9 * flops, 1e-9 * read);
  return kept == 12345.678f; /* never; but the compiler can't know */
}
