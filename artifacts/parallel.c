/* Work sharing between the callers of one compiled library and its worker threads.
 *
 * Linked into every artifact in place of the TVM runtime's thread pool, because that one belongs to the calling
 * thread (eight callers with two threads each make sixteen), pins whoever calls to the first cores, can't grow, spins
 * for a tenth of a second after each run, and hangs for ever in a forked child. Here all callers share the workers;
 * a caller takes part in its own job and never waits for a worker that hasn't begun, so that a busy machine costs
 * parallelism, never progress.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_THREADS = 256, SPIN = 2000 };

/* From TVM's C interface: TVMParallelGroupEnv, FTVMParallelLambda, TVMFFIAny. */
typedef struct {
  void* sync_handle;
  int32_t num_task;
} Group;

typedef int (*Body)(int task, Group* group, void* closure);

typedef struct {
  int32_t type_index;
  uint32_t padding;
  int64_t value;
} Any;

extern int (*__TVMBackendParallelLaunch)(Body, void*, int) __attribute__((weak));
extern void TVMFFIErrorMoveFromRaised(void** error);
extern void TVMFFIErrorSetRaised(void* error); /* takes a reference of its own */
extern int TVMFFIObjectDecRef(void* object);

/* Lives on its caller's stack: the caller leaves only when no worker is inside. */
typedef struct Job {
  Body body;
  void* closure;
  int tasks;
  atomic_int next;    /* first task that nobody has claimed */
  atomic_int helpers; /* workers inside; changed under the lock */
  void* error;        /* the first one; under the lock */
  struct Job* link;
} Job;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t published = PTHREAD_COND_INITIALIZER; /* for workers asleep */
static pthread_cond_t finished = PTHREAD_COND_INITIALIZER;  /* for callers asleep */
static pthread_t handles[MAX_THREADS];
static int workers, sleeping_workers, sleeping_callers, stopping;
static Job* jobs;
static atomic_uint news; /* changes with every published job */

static __thread int width = 1; /* threads that the calling thread may use, itself included */

static void pause_briefly(int round) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
  if (round % 64 == 63) sched_yield();
}

static void run_tasks(Job* job) {
  Group group = {NULL, job->tasks};
  int task;
  while ((task = atomic_fetch_add(&job->next, 1)) < job->tasks) {
    if (job->body(task, &group, job->closure) == 0) continue;
    void* error = NULL; /* raised in this thread, owed to the caller's */
    TVMFFIErrorMoveFromRaised(&error);
    pthread_mutex_lock(&lock);
    if (job->error == NULL) {
      job->error = error;
      error = NULL;
    }
    pthread_mutex_unlock(&lock);
    if (error != NULL) TVMFFIObjectDecRef(error);
    atomic_store(&job->next, job->tasks);
  }
}

static Job* find_job(void) {
  for (Job* job = jobs; job != NULL; job = job->link) {
    if (atomic_load(&job->next) < job->tasks && atomic_load(&job->helpers) < job->tasks - 1) return job;
  }
  return NULL;
}

static void* serve(void* unused) {
  pthread_mutex_lock(&lock);
  while (!stopping) {
    Job* job = find_job();
    if (job != NULL) {
      atomic_fetch_add(&job->helpers, 1);
      pthread_mutex_unlock(&lock);
      run_tasks(job);
      pthread_mutex_lock(&lock);
      if (atomic_fetch_sub(&job->helpers, 1) == 1 && sleeping_callers) pthread_cond_broadcast(&finished);
      continue; /* the job may be gone */
    }
    unsigned seen = atomic_load(&news);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < SPIN && atomic_load(&news) == seen; ++i) pause_briefly(i);
    pthread_mutex_lock(&lock);
    if (atomic_load(&news) == seen && !stopping) {
      ++sleeping_workers;
      pthread_cond_wait(&published, &lock);
      --sleeping_workers;
    }
  }
  pthread_mutex_unlock(&lock);
  return unused;
}

/* Under the lock. Signals stay with the program's own threads; a thread that can't be made is done without. */
static void grow(int wanted) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (workers < wanted && pthread_create(&handles[workers], NULL, serve, NULL) == 0) ++workers;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void publish(Job* job) {
  pthread_mutex_lock(&lock);
  int helpers = job->tasks - 1 < MAX_THREADS ? job->tasks - 1 : MAX_THREADS;
  if (workers < helpers && workers < width - 1 && !stopping) grow(helpers < width - 1 ? helpers : width - 1);
  job->link = jobs;
  jobs = job;
  atomic_fetch_add(&news, 1);
  for (int i = 0; i < helpers && i < sleeping_workers; ++i) pthread_cond_signal(&published);
  pthread_mutex_unlock(&lock);
}

static void withdraw(Job* job) {
  pthread_mutex_lock(&lock);
  Job** place = &jobs;
  while (*place != job) place = &(*place)->link;
  *place = job->link;
  int done = atomic_load(&job->helpers) == 0;
  pthread_mutex_unlock(&lock); /* also orders what helpers wrote before what the caller reads */
  if (done) return;
  for (int i = 0; i < SPIN && atomic_load(&job->helpers) != 0; ++i) pause_briefly(i);
  pthread_mutex_lock(&lock);
  ++sleeping_callers;
  while (atomic_load(&job->helpers) != 0) pthread_cond_wait(&finished, &lock);
  --sleeping_callers;
  pthread_mutex_unlock(&lock);
}

static int launch(Body body, void* closure, int tasks) {
  if (tasks == 0) tasks = width;
  if (tasks <= 1) {
    Group group = {NULL, 1};
    return body(0, &group, closure);
  }
  Job job = {.body = body, .closure = closure, .tasks = tasks};
  publish(&job);
  run_tasks(&job);
  withdraw(&job);
  if (job.error == NULL) return 0;
  TVMFFIErrorSetRaised(job.error);
  TVMFFIObjectDecRef(job.error);
  return -1;
}

/* onnxkiln_use_threads(n): parallel loops that the calling thread enters use n threads. */
__attribute__((visibility("default"))) int __tvm_ffi_onnxkiln_use_threads(void* self, const Any* arguments,
                                                                          int32_t count, Any* result) {
  (void)self;
  int64_t wanted = count == 1 ? arguments[0].value : 1;
  width = wanted < 1 ? 1 : wanted > MAX_THREADS ? MAX_THREADS : (int)wanted;
  if (&__TVMBackendParallelLaunch != NULL) __TVMBackendParallelLaunch = launch;
  *result = (Any){0, 0, 0};
  return 0;
}

static void before_fork(void) { pthread_mutex_lock(&lock); }

static void in_parent(void) { pthread_mutex_unlock(&lock); }

static void in_child(void) { /* where neither the workers nor the other callers exist */
  pthread_mutex_init(&lock, NULL);
  pthread_cond_init(&published, NULL);
  pthread_cond_init(&finished, NULL);
  workers = sleeping_workers = sleeping_callers = 0;
  jobs = NULL;
}

__attribute__((constructor)) static void on_load(void) { pthread_atfork(before_fork, in_parent, in_child); }

__attribute__((destructor)) static void on_unload(void) {
  pthread_mutex_lock(&lock);
  stopping = 1;
  atomic_fetch_add(&news, 1);
  pthread_cond_broadcast(&published);
  pthread_mutex_unlock(&lock);
  for (int i = 0; i < workers; ++i) pthread_join(handles[i], NULL);
}
