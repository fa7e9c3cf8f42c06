/* What the dsmq command adds to glibc's malloc: memory that has been free for a while goes back to the system.
 *
 * By itself glibc gives back what is free at the very end of an arena, and one small block there keeps it all: after a
 * purge the process would stay as large as it was. malloc_trim gives back every free page, wherever it is. It holds
 * malloc's lock meanwhile, so it is called for much memory that stays free, never for what is used again at once.
 *
 * There is one arena instead of eight for each core, since malloc_trim leaves what is free at the end of the others, up
 * to 64 MiB of each once large messages were freed there. What threads allocate often is at hand without its lock.
 * The thresholds of malloc are as they are: to set one gives a message of 1 MB fresh pages each time, and a third of
 * its speed.
 *
 * jemalloc and mimalloc could replace this file, but they keep more memory. MiB resident ten seconds after a load and after its
 * purge, and puts a second; benches/memory.py, 2026-12-01, 2 shared cores of an AMD EPYC with a load average of 17,
 * Linux 6.18, Debian 12's libraries preloaded, so that SQLite used them too. A lone rate is noisy by a third.
 *
 *                                  20 messages of 8 MiB   1,000,000 of 100 B   put, 1     put-confirmed, 50
 *   this file                      176, then 14           148, then 14         262,000    57,700
 *   jemalloc 5.3.0                 276, then 160          180, then 123        273,000    55,300
 *   the same, background_thread    217, then 21           179, then 20         278,000    57,900
 *   mimalloc 2.0.9                 285, then 311          180, then 183        249,000    49,300
 *
 * 100,000 messages of 10 kB: this file 1026, after the purge 784 and 15 thirty seconds after it, since the machine was
 * busy; jemalloc with background_thread 1248, 142 and 28; mimalloc 1255 and 1255 after ten seconds.
 *
 * build.rs links this into the command alone: a program with dsmq as a library has its own malloc and its own ways.
 * It is C because the crate has no unsafe code; nothing in Rust calls it. */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>

/* Less free memory than this more than there was after the last trim is not worth another one. */
#define WORTH_BYTES ((size_t)16 << 20)

/* A look a second; memory that was free at this many looks on end has been free for a while. */
#define LOOKS 3

/* To look takes a time that grows with the number of free blocks: at most a 100th of all. */
#define PAUSE_PER_LOOK 100

/* What glibc has in its arenas and nobody uses, whether or not the system has it back already. */
static size_t free_bytes(void) {
#if __GLIBC_PREREQ(2, 33)
    return mallinfo2().fordblks;
#else
    /* Right up to 4 GiB, beyond which a trim may come late. */
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

static void *trim_for_ever(void *unused) {
    size_t given_back = 0;
    int looks = 0;
    for (;;) {
        double began = now();
        size_t bytes = free_bytes();
        if (bytes < given_back)
            given_back = bytes;
        looks = bytes - given_back < WORTH_BYTES ? 0 : looks + 1;
        if (looks == LOOKS) {
            malloc_trim(0);
            given_back = free_bytes();
            looks = 0;
        }
        pause_for(1 + PAUSE_PER_LOOK * (now() - began));
    }
    return unused;
}

/* Before main and any other thread. Without this one dsmq works as well, and keeps its memory. */
__attribute__((constructor)) static void start(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    mallopt(M_ARENA_MAX, 1);
    if (pthread_attr_init(&attributes) != 0)
        return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, (size_t)64 << 10);
    /* Signals are the main program's. The new thread inherits what is blocked. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_create(&thread, &attributes, trim_for_ever, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}
