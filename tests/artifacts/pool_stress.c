/* Callers that hammer the pool at once; every task must run exactly once, and every error reach its own caller. */
#include "parallel.c"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CALLERS = 6, JOBS = 500, MAX_TASKS = 9 };

static __thread void* raised;
static __thread int is_caller;
static atomic_int helped;

void TVMFFIErrorMoveFromRaised(void** error) { *error = raised, raised = NULL; }
void TVMFFIErrorSetRaised(void* error) { raised = error; }
int TVMFFIObjectDecRef(void* object) { return object == NULL; }

typedef struct {
  int counts[MAX_TASKS];
  int failing;
  int caller;
} Work;

static int body(int task, Group* group, void* closure) {
  Work* work = closure;
  if (task >= group->num_task) abort();
  work->counts[task]++;
  if (!is_caller) atomic_fetch_add(&helped, 1);
  if ((task + work->caller) % 2) usleep(30); /* or workers would find every job done already */
  if (task != work->failing) return 0;
  raised = work; /* stands for an error object */
  return -1;
}

static void* call(void* argument) {
  int caller = (int)(intptr_t)argument;
  is_caller = 1;
  unsigned seed = (unsigned)caller;
  for (int job = 0; job < JOBS; ++job) {
    Any threads = {1, 0, 1 + rand_r(&seed) % MAX_TASKS}, result;
    __tvm_ffi_onnxkiln_use_threads(NULL, &threads, 1, &result);
    int tasks = (int)threads.value;
    Work work = {.failing = rand_r(&seed) % 4 ? -1 : rand_r(&seed) % tasks, .caller = caller};
    int code = launch(body, &work, 0);
    if (work.failing < 0) {
      if (code != 0) abort();
      for (int task = 0; task < tasks; ++task) {
        if (work.counts[task] != 1) abort();
      }
    } else if (code != -1 || raised != &work) {
      abort();
    }
    raised = NULL;
  }
  return NULL;
}

int main(void) {
  pthread_t threads[CALLERS];
  for (intptr_t i = 0; i < CALLERS; ++i) pthread_create(&threads[i], NULL, call, (void*)i);
  for (int i = 0; i < CALLERS; ++i) pthread_join(threads[i], NULL);
  if (workers < 1 || workers > MAX_TASKS - 1 || helped < JOBS) abort();
  puts("done");
  return 0;
}
