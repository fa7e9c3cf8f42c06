/* What files.c asks of faults.c: what is to fail, which files are watched, and the journal. */
#ifndef FAULTS_H
#define FAULTS_H

#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

/* What can be made to fail. */
enum { WRITE = 1, SYNC = 2, MALLOC = 4 };

/* The words of the control file. KINDS to LIMIT are the test's; the others are counted here, so that a test can tell
 * that its operations came through this library, and that the fault it ordered has happened. */
enum {
	KINDS, /* which of the above may fail: a sum */
	NTH, /* the nth of them from now on fails, */
	TIMES, /* and so many in all, one after another, */
	ERRNO, /* with this errno, not 0 (an allocation: with ENOMEM) */
	LIMIT, /* a file of the folder may grow to so many bytes, and no further; 0: as large as it likes */
	WRITES,
	SYNCS,
	MALLOCS,
	INJECTED, /* how many were made to fail, LIMIT's too */
	CONTROL_WORDS
};

/* The server has names of its own. */
#pragma GCC visibility push(hidden)

/* One more of these has come. */
void count(int word);
int64_t word(int at);
/* The errno with which this operation is to fail, or 0. */
int ordered_to_fail(int kind);

/* The part of the path behind the folder: "" for the folder itself, NULL if it is elsewhere. */
const char *inside(const char *path);
/* The name of an open file in the folder, by now; NULL if it is elsewhere or was deleted. */
const char *name_of(int fd, char path[PATH_MAX]);

/* The journal's descriptor, or -1, and its length. */
extern int journal;
extern uint64_t journal_length;
/* Held while an operation takes effect and is written down, so that the order is the true one. Not
 * held while a sync is waited for: others write meanwhile. */
extern pthread_mutex_t order;
void record(char kind, const char *name, uint64_t position, const void *data, size_t length);
void not_modelled(const char *name, const char *what);

#pragma GCC visibility pop

#endif
