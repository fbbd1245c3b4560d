// Matrix products on tensor cores, in place of <mma.h>, which NVRTC's wheels lack.
//
// An accumulator holds 16 x 16 sums, spread over the 32 lanes of a warp as two results of mma.m16n8 hold them. Operands
// are read out of shared memory where they lie: A as [row, k], B as [column, k]. Where a lane finds its elements: PTX
// ISA, section "Warp-level matrix instructions", figures of mma.m16n8k16 (.f16) and mma.m16n8k8 (.tf32).
// With KILN_MMA_DESCRIBED the three instructions come from elsewhere.
#ifndef KILN_MMA_DESCRIBED
static __device__ __forceinline__ void kiln_mma_f16(float* c, const unsigned* a, const unsigned* b) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  for (int half = 0; half < 2; half++)
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
#endif
}
#if __CUDA_ARCH__ >= 800
static __device__ __forceinline__ unsigned kiln_to_tf32(float value) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}
static __device__ __forceinline__ void kiln_mma_tf32(float* c, const unsigned* a, const unsigned* b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif
#endif

namespace nvcuda {
namespace wmma {
struct accumulator;
enum layout_t { mem_row_major };
template <typename Use, int M, int N, int K, typename T>
struct fragment;
template <>
struct fragment<accumulator, 16, 16, 16, float> {
  float sums[8];  // [column / 8, as one instruction has them]
};
typedef fragment<accumulator, 16, 16, 16, float> kiln_sums;

static __device__ __forceinline__ void fill_fragment(kiln_sums& c, float value) {
  for (int i = 0; i < 8; i++) c.sums[i] = value;
}
static __device__ __forceinline__ void store_matrix_sync(float* to, const kiln_sums& c, unsigned stride, layout_t) {
  const int row = threadIdx.x / 4, column = threadIdx.x % 4 * 2;
  for (int i = 0; i < 8; i++) to[(row + i / 2 % 2 * 8) * stride + i / 4 * 8 + column + i % 2] = c.sums[i];
}
}  // namespace wmma
}  // namespace nvcuda

// Sums of 16 x 16, over 16 elements of the depth; strides are in elements.
static __device__ __forceinline__ void kiln_product_f16(nvcuda::wmma::kiln_sums* c, int index, const void* a_from, int a_stride,
                                                        const void* b_from, int b_stride) {
  const unsigned short *a = (const unsigned short*)a_from, *b = (const unsigned short*)b_from;
  const int group = threadIdx.x / 4, pair = threadIdx.x % 4 * 2;
  unsigned rows[4], columns[2];
  for (int i = 0; i < 4; i++) rows[i] = *(const unsigned*)(a + (group + i % 2 * 8) * a_stride + i / 2 * 8 + pair);
  for (int side = 0; side < 2; side++) {
    for (int i = 0; i < 2; i++) columns[i] = *(const unsigned*)(b + (side * 8 + group) * b_stride + i * 8 + pair);
    kiln_mma_f16(c[index].sums + side * 4, rows, columns);
  }
}
#if __CUDA_ARCH__ >= 800 || defined(KILN_MMA_DESCRIBED)
static __device__ __forceinline__ void kiln_product_tf32(nvcuda::wmma::kiln_sums* c, int index, const void* a_from, int a_stride,
                                                         const void* b_from, int b_stride) {
  const float *a = (const float*)a_from, *b = (const float*)b_from;
  const int group = threadIdx.x / 4, lane = threadIdx.x % 4;
  for (int depth = 0; depth < 16; depth += 8) {
    unsigned rows[4], columns[2];
    for (int i = 0; i < 4; i++)
      rows[i] = kiln_to_tf32(a[(group + i % 2 * 8) * a_stride + depth + i / 2 * 4 + lane]);
    for (int side = 0; side < 2; side++) {
      for (int i = 0; i < 2; i++) columns[i] = kiln_to_tf32(b[(side * 8 + group) * b_stride + depth + i * 4 + lane]);
      kiln_mma_tf32(c[index].sums + side * 4, rows, columns);
    }
  }
}
#endif
