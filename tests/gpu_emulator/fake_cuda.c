// A driver and a CUDA runtime without a GPU: memory is the host's, and every call that matters is written to a log.
//
// Built twice, as libcuda.so.1 and (with CUDART) as libcudart.so.13. The environment says what is pretended:
//   FAKE_CUDA_LOG       a file that gets a line per call
//   FAKE_CUDA_DEVICES   capabilities such as 90 or 80,86 (default 90); empty: no GPU
//   FAKE_CUDA_VERSION   the driver's CUDA version (default 13050)
//   FAKE_CUDA_MEMORY    bytes that cudaMalloc gives in all (default: 4 GB)
//   FAKE_CUDA_NO_GRAPHS set: recordings can't be made into graphs
//   FAKE_CUDA_KERNELS   a library with a function launch_KERNEL for each kernel, which is called in its place
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char* setting(const char* name, const char* otherwise) {
  const char* value = getenv(name);
  return value ? value : otherwise;
}

static void note(const char* format, ...) {
  const char* path = getenv("FAKE_CUDA_LOG");
  if (!path) return;
  FILE* file = fopen(path, "a");
  va_list arguments;
  va_start(arguments, format);
  vfprintf(file, format, arguments);
  va_end(arguments);
  fputc('\n', file);
  fclose(file);
}

static int capability(int index) {
  char list[256];
  strncpy(list, setting("FAKE_CUDA_DEVICES", "90"), sizeof list - 1);
  for (char* word = strtok(list, ","); word; word = strtok(NULL, ","))
    if (index-- == 0) return atoi(word);
  return 0;
}

static int device_count(void) {
  int count = 0;
  while (capability(count)) count++;
  return count;
}

// A recorded kernel: its arguments as they were, eight bytes each.
typedef struct Node {
  struct Node* next;
  char name[500];
  unsigned grid[3], block[3], shared;
  int count;
  uint64_t values[64];
} Node;

#ifdef CUDART

#define GUARD 64
static const unsigned char MARK = 0xA5;
static size_t used;
static __thread int current;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void* capturing;
static int broken;

int cudaGetDeviceCount(int* count) { return (*count = device_count()) ? 0 : 100; }
int cudaSetDevice(int index) { current = index; return index < device_count() ? 0 : 101; }
int cudaGetDevice(int* index) { *index = current; return 0; }
int cudaDeviceGetAttribute(int* value, int attribute, int index) {
  *value = attribute == 75 ? capability(index) / 10 : attribute == 76 ? capability(index) % 10 : 32;
  return 0;
}
int cudaGetDeviceProperties(void* properties, int index) { return 801; }
int cudaMemGetInfo(size_t* left, size_t* total) {
  *total = strtoull(setting("FAKE_CUDA_MEMORY", "4000000000"), NULL, 10);
  *left = *total - used;
  return 0;
}
// Each piece lies between two marks; what runs over them is noticed when it is freed, and ends the process.
int cudaMalloc(void** result, size_t size) {
  size_t left, total;
  cudaMemGetInfo(&left, &total);
  note("malloc %zu", size);
  if (size > left) return 2;
  size_t whole = (size + 255) / 256 * 256;
  char* base = aligned_alloc(256, whole + 512);
  memset(base, MARK, whole + 512);
  memcpy(base, &size, sizeof size);
  pthread_mutex_lock(&lock);
  used += size;
  pthread_mutex_unlock(&lock);
  *result = base + 256;
  return 0;
}
int cudaFree(void* memory) {
  if (!memory) return 0;
  unsigned char* base = (unsigned char*)memory - 256;
  size_t size;
  memcpy(&size, base, sizeof size);
  for (int i = 0; i < GUARD; i++)
    if (base[255 - i] != MARK || ((unsigned char*)memory)[size + i] != MARK) {
      fprintf(stderr, "a kernel wrote outside of its %zu bytes\n", size);
      abort();
    }
  note("free %zu", size);
  pthread_mutex_lock(&lock);
  used -= size;
  pthread_mutex_unlock(&lock);
  free(base);
  return 0;
}
int cudaMallocHost(void** result, size_t size) { *result = malloc(size); return 0; }
int cudaFreeHost(void* memory) { free(memory); return 0; }
int cudaMemcpyAsync(void* to, const void* from, size_t size, int kind, void* stream) {
  note("memcpy %s %zu stream %p", kind == 1 ? "to-device" : kind == 2 ? "to-host" : "on-device", size, stream);
  memcpy(to, from, size);
  return 0;
}
int cudaMemcpyPeerAsync(void* to, int d, const void* from, int s, size_t size, void* stream) { return 801; }
int cudaStreamCreate(void** stream) { *stream = malloc(1); note("stream-create %p", *stream); return 0; }
int cudaStreamCreateWithFlags(void** stream, unsigned flags) { return cudaStreamCreate(stream); }
int cudaStreamDestroy(void* stream) { return 0; }
int cudaStreamSynchronize(void* stream) {
  note("stream-synchronize %p", stream);
  if (!capturing || stream != capturing) return 0;
  broken = 1;
  return 900;
}
int cudaStreamWaitEvent(void* stream, void* event, unsigned flags) { return 0; }
static Node *first, *last;

// The driver's half asks where to put a launch: 1 where it was recorded.
int fake_record(void* stream, const Node* launch) {
  if (!capturing || stream != capturing) return 0;
  Node* node = malloc(sizeof *node);
  *node = *launch;
  node->next = NULL;
  if (last) last->next = node; else first = node;
  last = node;
  return 1;
}
int cudaStreamBeginCapture(void* stream, int mode) {
  note("capture-begin %p mode %d", stream, mode);
  capturing = stream;
  broken = 0;
  first = last = NULL;
  return 0;
}
int cudaStreamEndCapture(void* stream, void** graph) {
  note("capture-end %p", stream);
  int wrong = broken || stream != capturing;
  capturing = NULL;
  *graph = NULL;
  if (wrong) return 901;
  void** made = malloc(sizeof *made);
  *made = first;
  *graph = made;
  return 0;
}
int cudaEventCreate(void** event) { *event = malloc(1); return 0; }
int cudaEventDestroy(void* event) { free(event); return 0; }
int cudaEventRecord(void* event, void* stream) { return 0; }
int cudaEventSynchronize(void* event) { return 0; }
int cudaEventElapsedTime(float* ms, void* start, void* end) { *ms = 1; return 0; }
int cudaGraphDestroy(void* graph) { free(graph); return 0; }
int cudaGraphExecDestroy(void* exec) {
  note("graph-destroy");
  for (Node* node = *(Node**)exec; node;) {
    Node* next = node->next;
    free(node);
    node = next;
  }
  free(exec);
  return 0;
}
int cudaGraphInstantiate(void** exec, void* graph, unsigned long long flags) {
  if (getenv("FAKE_CUDA_NO_GRAPHS")) return 801;
  *exec = malloc(sizeof(void*));
  *(void**)*exec = *(void**)graph;
  return 0;
}
int cudaGraphLaunch(void* exec, void* stream) {
  note("graph-launch stream %p", stream);
  int (*run)(const Node*) = dlsym(dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD), "fake_run");
  for (Node* node = *(Node**)exec; node; node = node->next) {
    int status = run(node);
    if (status) return status;
  }
  return 0;
}
int cudaGetLastError(void) { return 0; }
int cudaPeekAtLastError(void) { return 0; }
const char* cudaGetErrorName(int status) { return status == 2 ? "cudaErrorMemoryAllocation" : "cudaErrorFake"; }
const char* cudaGetErrorString(int status) { return status == 2 ? "out of memory" : "a pretended error"; }

#else

typedef struct {
  unsigned grid[3], block[3], shared;
  void* stream;
} Config;
typedef struct { char name[500]; } Function;

int cuInit(unsigned flags) { note("init"); return device_count() ? 0 : 100; }
int cuDriverGetVersion(int* version) { *version = atoi(setting("FAKE_CUDA_VERSION", "13050")); return 0; }
int cuDeviceGetCount(int* count) { *count = device_count(); return 0; }
int cuDeviceGet(int* device, int index) { *device = index; return 0; }
int cuDeviceGetName(char* name, int size, int device) { snprintf(name, size, "Pretended GPU %d", device); return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  *value = attribute == 75 ? capability(device) / 10 : capability(device) % 10;
  return 0;
}
int cuGetErrorName(int status, const char** name) { *name = "CUDA_ERROR_FAKE"; return 0; }
int cuGetErrorString(int status, const char** words) { *words = "a pretended error"; return 0; }
int cuFuncSetAttribute(void* function, int attribute, int value) {
  note("attribute %s %d %d", ((Function*)function)->name, attribute, value);
  return 0;
}
int cuModuleLoadData(void** module, const void* image) {
  const unsigned char* head = image;
  int elf = memcmp(head, "\177ELF", 4) == 0;
  note("module %s %d", elf ? "cubin" : "ptx", elf ? head[49] : atoi(strstr(image, ".target sm_") + 11));
  *module = malloc(1);
  return 0;
}
int cuModuleUnload(void* module) { note("module-unload"); free(module); return 0; }
int cuModuleGetFunction(void** function, void* module, const char* name) {
  *function = calloc(1, sizeof(Function));
  strncpy(*function, name, sizeof(Function) - 1);
  return 0;
}
int cuTensorMapEncodeTiled(void) { return 801; }
// Runs a kernel's stand-in.
int fake_run(const Node* node) {
  const char* path = getenv("FAKE_CUDA_KERNELS");
  if (!path) return 0;
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) { fprintf(stderr, "%s\n", dlerror()); return 209; }
  char symbol[520] = "launch_";
  strcat(symbol, node->name);
  void (*run)(const unsigned*, const unsigned*, unsigned, void**) = dlsym(library, symbol);
  if (!run) return 500;
  void* arguments[64];
  for (int i = 0; i < node->count; i++) arguments[i] = (void*)&node->values[i];
  run(node->grid, node->block, node->shared, arguments);
  return 0;
}
static int count_of(const char* name) {
  const char* path = getenv("FAKE_CUDA_KERNELS");
  void* library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
  char symbol[520] = "count_";
  strcat(symbol, name);
  int* count = library ? dlsym(library, symbol) : NULL;
  return count ? *count : 0;
}
int cuLaunchKernelEx(const Config* config, void* function, void** arguments, void** extra) {
  Node node = {NULL};
  strcpy(node.name, ((Function*)function)->name);
  memcpy(node.grid, config->grid, sizeof node.grid);
  memcpy(node.block, config->block, sizeof node.block);
  node.shared = config->shared;
  node.count = count_of(node.name);
  if (node.count > 64) { fprintf(stderr, "%s has %d arguments\n", node.name, node.count); return 1; }
  for (int i = 0; i < node.count; i++) memcpy(&node.values[i], arguments[i], 8);
  int (*record)(void*, const Node*) = dlsym(RTLD_DEFAULT, "fake_record");
  int recorded = record && record(config->stream, &node);
  const unsigned *g = config->grid, *b = config->block;
  note("%s %s %u %u %u, %u %u %u, %u stream %p", recorded ? "record" : "launch", node.name, g[0], g[1], g[2], b[0], b[1],
       b[2], config->shared, config->stream);
  return recorded ? 0 : fake_run(&node);
}

#endif
