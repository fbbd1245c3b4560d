// Enough of CUDA C++ to run kernels on a processor: each GPU thread is a fiber, a block's fibers take turns.
//
// A fiber gives way at barriers and shuffles only, in an order that is turned round where EMULATOR_REVERSE is set:
// results that depend on a barrier that is missing then differ. Blocks run one after another, so that static variables
// serve as shared memory.
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <functional>
#include <vector>

using std::max;
using std::min;
struct uint3_ { unsigned x, y, z; };
extern uint3_ threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define CUDART_INF_F HUGE_VALF
#define CUDART_NAN_F NAN
#define CUDART_INF HUGE_VAL
#define CUDART_NAN ((double)NAN)

namespace emulator {
enum State { READY, BARRIER, DONE };
struct Fiber {
  ucontext_t context;
  char* stack;
  State state;
  uint3_ index;
};
extern std::vector<Fiber> fibers;
extern size_t running;
extern unsigned char slots[1024][16];
void give_way(State state);
void run(const unsigned* grid, const unsigned* block, bool synchronized, const std::function<void()>& kernel);

// Every thread of the warp passes here: all have written before one reads, and read before one writes again.
template <typename T>
T exchange(T value, size_t lane_from) {
  size_t warp = running / 32 * 32;
  memcpy(slots[running], &value, sizeof value);
  give_way(READY);
  size_t from = warp + lane_from;
  T result = value;
  if (lane_from < 32 && from < fibers.size()) memcpy(&result, slots[from], sizeof result);
  give_way(READY);
  return result;
}
}  // namespace emulator

inline void __syncthreads() { emulator::give_way(emulator::BARRIER); }
inline void __syncwarp(unsigned = 0) { emulator::give_way(emulator::READY); }
inline unsigned __activemask() { return 0xffffffffu; }
template <typename T>
T __shfl_sync(unsigned, T value, int lane, int width = 32) {
  size_t own = emulator::running % 32;
  return emulator::exchange(value, own / width * width + lane % width);
}
template <typename T>
T __shfl_down_sync(unsigned, T value, unsigned delta, int width = 32) {
  size_t own = emulator::running % 32;
  return emulator::exchange(value, own % width + delta < (unsigned)width ? own + delta : own);
}
template <typename T>
T __shfl_up_sync(unsigned, T value, unsigned delta, int width = 32) {
  size_t own = emulator::running % 32;
  return emulator::exchange(value, own % width >= delta ? own - delta : own);
}

template <typename T> struct alignas(2 * sizeof(T)) Vector2 { T x, y; };
template <typename T> struct Vector3 { T x, y, z; };
template <typename T> struct alignas(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) Vector4 { T x, y, z, w; };
#define VECTORS(NAME, T)                                                           \
  typedef Vector2<T> NAME##2; typedef Vector3<T> NAME##3; typedef Vector4<T> NAME##4; \
  inline NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }                        \
  inline NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; }                \
  inline NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
typedef unsigned char uchar_;
typedef unsigned short ushort_;
typedef unsigned uint_;
VECTORS(float, float)
VECTORS(double, double)
VECTORS(int, int)
VECTORS(uint, uint_)
VECTORS(short, short)
VECTORS(ushort, ushort_)
VECTORS(char, signed char)
VECTORS(uchar, uchar_)
VECTORS(longlong, long long)
VECTORS(ulonglong, unsigned long long)

inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
template <typename T> T __ldg(const T* p) { return *p; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(unsigned x) { return x ? __builtin_clz(x) : 32; }
inline long long max(int64_t a, int b) { return a > b ? a : b; }
inline long long min(int64_t a, int b) { return a < b ? a : b; }

template <typename To, typename From>
To bits_as(From value) {
  To result;
  memcpy(&result, &value, sizeof result);
  return result;
}
inline float __int_as_float(int x) { return bits_as<float>(x); }
inline float __uint_as_float(unsigned x) { return bits_as<float>(x); }
inline int __float_as_int(float x) { return bits_as<int>(x); }
inline unsigned __float_as_uint(float x) { return bits_as<unsigned>(x); }
inline double __longlong_as_double(long long x) { return bits_as<double>(x); }
inline long long __double_as_longlong(double x) { return bits_as<long long>(x); }

#define __host__
#define __align__(n) __attribute__((aligned(n)))
#ifdef EMULATE_HALF
typedef _Float16 half;
typedef _Float16 __half;
typedef Vector2<half> __half2;
typedef Vector2<half> half2;
inline half2 make_half2(half x, half y) { return {x, y}; }
inline half __float2half_rn(float x) { return (half)x; }
inline half __float2half(float x) { return (half)x; }
inline float __half2float(half x) { return (float)x; }
inline bool __hgt(half a, half b) { return a > b; }
inline bool __hlt(half a, half b) { return a < b; }
inline half hexp(half x) { return (half)expf((float)x); }
inline half hlog(half x) { return (half)logf((float)x); }
inline half hsqrt(half x) { return (half)sqrtf((float)x); }
inline half hrsqrt(half x) { return (half)(1 / sqrtf((float)x)); }
inline half htanh(half x) { return (half)tanhf((float)x); }
inline half __habs(half x) { return (half)fabsf((float)x); }
#endif

// What the instructions of tensor cores compute, by the tables of the PTX ISA ("Matrix fragments for mma.m16n8k16" with
// .f16, and "... mma.m16n8k8" with .tf32): a lane shows what it holds, and finds in its warp what its sums need.
#define KILN_MMA_DESCRIBED
namespace emulator {
extern unsigned operands[1024][6];

inline void show(const unsigned* a, const unsigned* b) {
  memcpy(operands[running], a, 16);
  memcpy(operands[running] + 4, b, 8);
  give_way(READY);
}

template <typename Element>
void multiply(float* c, int depth, Element element) {
  unsigned group = running % 32 / 4, pair = running % 4 * 2;
  float sums[4];
  for (int i = 0; i < 4; i++) {
    unsigned row = group + (i >= 2 ? 8 : 0), column = pair + (i & 1);
    double sum = c[i];
    for (int k = 0; k < depth; k++) sum += (double)element(true, row, k) * element(false, column, k);
    sums[i] = (float)sum;
  }
  give_way(READY);
  memcpy(c, sums, sizeof sums);
}
}  // namespace emulator
inline void kiln_mma_f16(float* c, const unsigned* a, const unsigned* b) {
  emulator::show(a, b);
  emulator::multiply(c, 16, [](bool of_a, unsigned line, unsigned k) {
    const unsigned* held = emulator::operands[emulator::running / 32 * 32 + line % 8 * 4 + k % 8 / 2];
    unsigned word = of_a ? held[(line >= 8 ? 1 : 0) + (k >= 8 ? 2 : 0)] : held[4 + (k >= 8 ? 1 : 0)];
    unsigned short bits = (unsigned short)(k % 2 ? word >> 16 : word);
    _Float16 value;
    memcpy(&value, &bits, 2);
    return (float)value;
  });
}
inline void kiln_mma_tf32(float* c, const unsigned* a, const unsigned* b) {
  emulator::show(a, b);
  emulator::multiply(c, 8, [](bool of_a, unsigned line, unsigned k) {
    const unsigned* held = emulator::operands[emulator::running / 32 * 32 + line % 8 * 4 + k % 4];
    unsigned word = of_a ? held[(line >= 8 ? 1 : 0) + (k >= 4 ? 2 : 0)] : held[4 + (k >= 4 ? 1 : 0)];
    if (word & 0x1fff) {
      fprintf(stderr, "an operand is not rounded to tf32\n");
      abort();
    }
    float value;
    memcpy(&value, &word, 4);
    return value;
  });
}
inline unsigned kiln_to_tf32(float value) {  // to nearest, ties away from zero: ten bits stay of the fraction
  unsigned bits;
  memcpy(&bits, &value, 4);
  return (bits & 0x7f800000) == 0x7f800000 ? bits & ~0x1fffu : (bits + 0x1000) & ~0x1fffu;
}
