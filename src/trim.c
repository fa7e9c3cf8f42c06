/* Returns the dsmq command's free memory to the system, on top of glibc's malloc.
 *
 * glibc alone returns only the free end of an arena, and one small block there prevents even that: after a purge the
 * process would keep its size. malloc_trim returns every free page, wherever it is. It holds malloc's lock meanwhile,
 * so this file calls it for large amounts that stay free, and not for memory that is soon used again.
 *
 * One arena replaces the default of eight for each core, because malloc_trim leaves the free end of the other arenas,
 * up to 64 MiB of each once large messages were freed there. Each thread's cache serves frequent sizes without the
 * lock. The thresholds of malloc keep their defaults: setting one gives each message of 1 MB fresh pages and costs a
 * third of its speed.
 *
 * jemalloc and mimalloc could replace this file, but they keep more memory. The table has MiB resident ten seconds
 * after a load and after its purge, and puts a second; benches/memory.py, 2026-12-01, 2 shared cores of an AMD EPYC
 * with a load average of 17, Linux 6.18, Debian 12's libraries preloaded, so that SQLite used them too. A single rate
 * varies by a third.
 *
 *                                  20 messages of 8 MiB   1,000,000 of 100 B   put, 1     put-confirmed, 50
 *   this file                      176, then 14           148, then 14         262,000    57,700
 *   jemalloc 5.3.0                 276, then 160          180, then 123        273,000    55,300
 *   the same, background_thread    217, then 21           179, then 20         278,000    57,900
 *   mimalloc 2.0.9                 285, then 311          180, then 183        249,000    49,300
 *
 * 100,000 messages of 10 kB: this file 1026, after the purge 784, and 15 thirty seconds later, because the machine was
 * busy; jemalloc with background_thread 1248, 142 and 28; mimalloc 1255, and 1255 after ten seconds.
 *
 * build.rs links this into the command alone: a program with dsmq as a library chooses its own allocator. It is C
 * because the crate has no unsafe code; nothing in Rust calls it. */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>

/* Trim when free memory has grown by this much since the last trim. */
#define WORTH_BYTES ((size_t)16 << 20)

/* Memory is measured every second, and counts as unused when it was free at this many measurements in a row. */
#define MEASUREMENTS 3

/* A measurement takes longer with more free blocks. Its share of the time is at most one in this many. */
#define PAUSE_SHARE 100

/* Free bytes in glibc's arenas, including pages that were returned to the system. */
static size_t free_bytes(void) {
#if __GLIBC_PREREQ(2, 33)
    return mallinfo2().fordblks;
#else
    /* Exact up to 4 GiB; beyond, a trim may come late. */
    return (unsigned)mallinfo().fordblks;
#endif
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void pause_for(double seconds) {
    struct timespec time = { .tv_sec = (time_t)seconds };
    nanosleep(&time, NULL);
}

static void *trim_forever(void *unused) {
    size_t given_back = 0;
    int grown = 0;
    for (;;) {
        double began = now();
        size_t bytes = free_bytes();
        if (bytes < given_back)
            given_back = bytes;
        grown = bytes - given_back < WORTH_BYTES ? 0 : grown + 1;
        if (grown == MEASUREMENTS) {
            malloc_trim(0);
            given_back = free_bytes();
            grown = 0;
        }
        pause_for(1 + PAUSE_SHARE * (now() - began));
    }
    return unused;
}

/* Runs before main and before any other thread. If it fails, dsmq works and keeps its memory. */
__attribute__((constructor)) static void start(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    mallopt(M_ARENA_MAX, 1);
    if (pthread_attr_init(&attributes) != 0)
        return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, (size_t)64 << 10);
    /* The main program handles signals: the new thread inherits a mask that blocks all. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_create(&thread, &attributes, trim_forever, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}
