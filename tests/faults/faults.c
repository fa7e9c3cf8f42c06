/*
 * The disk under the server, as the tests of power loss and of failing operations see it: preloaded
 * (LD_PRELOAD) under a real dsmq, it writes down what reaches the files of one folder, and makes
 * chosen operations fail. Linux and glibc only; tests/suite/durability/faults/ and power/ beside it use it.
 *
 *   FAULTS_DIR      the folder, an absolute path without symbolic links; no other file is touched
 *   FAULTS_JOURNAL  the file to which every change of the folder is appended, as a record (below)
 *   FAULTS_CONTROL  a file of CONTROL_WORDS 64-bit words, shared with the test: what is to fail
 *   FAULTS_MALLOC   "lo-hi,lo-hi", hexadecimal offsets in the executable: the functions that SQLite
 *                   allocates with. Allocations made elsewhere never fail: Rust aborts when its do.
 *
 * Memory that is mapped cannot be watched. SQLite maps nothing but the -shm file, which is worth
 * nothing after power was lost; a mapping of another file that can be written is recorded as 'X',
 * and so are system calls that change files and are not modelled here: the tests refuse those.
 *
 * files.c has the system calls that are watched; this file has what they ask, and the allocations.
 */
#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef __LP64__
#error "offsets are passed to system calls in one register: a 64-bit Linux is needed"
#endif

void *__libc_malloc(size_t size);
void *__libc_realloc(void *old, size_t size);

/* ---- The control file ------------------------------------------------------------------------ */

static int64_t *control;

void count(int word)
{
	if (control)
		__atomic_add_fetch(&control[word], 1, __ATOMIC_SEQ_CST);
}

int64_t word(int at)
{
	return control ? __atomic_load_n(&control[at], __ATOMIC_SEQ_CST) : 0;
}

int ordered_to_fail(int kind)
{
	if (!(word(KINDS) & kind))
		return 0;
	int64_t left = __atomic_fetch_sub(&control[NTH], 1, __ATOMIC_SEQ_CST);
	if (left > 1 || left <= 1 - word(TIMES))
		return 0;
	count(INJECTED);
	return (int)word(ERRNO);
}

/* ---- The folder ------------------------------------------------------------------------------ */

static char folder[PATH_MAX];
static size_t folder_length;

const char *inside(const char *path)
{
	if (!folder_length || strncmp(path, folder, folder_length) != 0)
		return NULL;
	if (path[folder_length] == '\0')
		return "";
	return path[folder_length] == '/' ? path + folder_length + 1 : NULL;
}

const char *name_of(int fd, char path[PATH_MAX])
{
	static const char DELETED[] = " (deleted)";
	char link[64];
	int saved = errno;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t length = folder_length ? readlink(link, path, PATH_MAX - 1) : -1;
	errno = saved;
	if (length < 0)
		return NULL;
	path[length] = '\0';
	size_t tail = sizeof DELETED - 1;
	if ((size_t)length > tail && strcmp(path + length - tail, DELETED) == 0)
		return NULL;
	return inside(path);
}

/* ---- The journal ----------------------------------------------------------------------------- */

/* A record: this head, then the name, then the data. Kinds:
 *   'C' the file was made                    'W' data was written at the position
 *   'T' its size was set to the position     'U' the file was unlinked
 *   'R' it was renamed to the data           'X' something that is not modelled: the data says what
 *   'S' it was synced: its records in the journal's first `position` bytes are on the disk. With no
 *       name it is the folder, and with it what was made, unlinked and renamed.
 *   'F' such a sync failed: those records may be lost, whatever later syncs say. */
struct head {
	uint32_t kind;
	uint32_t name_length;
	uint64_t position;
	uint64_t data_length;
};

int journal = -1;
uint64_t journal_length;
pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

static void append(const void *bytes, size_t length)
{
	while (length > 0) {
		ssize_t done = syscall(SYS_write, journal, bytes, length);
		if (done < 0) {
			static const char why[] = "faults.c: the journal cannot be written\n";
			syscall(SYS_write, 2, why, sizeof why - 1);
			abort();
		}
		bytes = (const char *)bytes + done;
		length -= done;
		journal_length += done;
	}
}

void record(char kind, const char *name, uint64_t position, const void *data, size_t length)
{
	int saved = errno;
	struct head head = { kind, strlen(name), position, length };
	if (journal < 0)
		return;
	append(&head, sizeof head);
	append(name, head.name_length);
	append(data, length);
	errno = saved;
}

void not_modelled(const char *name, const char *what)
{
	pthread_mutex_lock(&order);
	record('X', name, 0, what, strlen(what));
	pthread_mutex_unlock(&order);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

enum { RANGES = 4 };
static struct {
	uintptr_t low, high;
} allocators[RANGES];

static int is_sqlite(const void *caller)
{
	uintptr_t at = (uintptr_t)caller;
	for (int i = 0; i < RANGES; i++)
		if (at >= allocators[i].low && at < allocators[i].high)
			return 1;
	return 0;
}

static int allocation_fails(const void *caller)
{
	if (!is_sqlite(caller))
		return 0;
	int fails = ordered_to_fail(MALLOC);
	count(MALLOCS);
	if (fails)
		errno = ENOMEM;
	return fails;
}

void *malloc(size_t size)
{
	return allocation_fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *realloc(void *old, size_t size)
{
	return allocation_fails(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}

/* ---- The beginning --------------------------------------------------------------------------- */

/* The executable is the first object that is told of. */
static int note_base(struct dl_phdr_info *info, size_t size, void *base)
{
	(void)size;
	*(uintptr_t *)base = info->dlpi_addr;
	return 1;
}

static void note_allocators(const char *text)
{
	uintptr_t base = 0;
	dl_iterate_phdr(note_base, &base);
	for (int i = 0; i < RANGES && *text; i++) {
		char *end;
		uintptr_t low = strtoul(text, &end, 16);
		uintptr_t high = *end == '-' ? strtoul(end + 1, &end, 16) : 0;
		allocators[i].low = base + low;
		allocators[i].high = base + high;
		text = *end == ',' ? end + 1 : "";
	}
}

static void *shared_words(const char *path)
{
	int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
	size_t length = CONTROL_WORDS * sizeof(int64_t);
	if (fd < 0 || lseek(fd, 0, SEEK_END) < (off_t)length)
		return MAP_FAILED;
	void *words = (void *)syscall(SYS_mmap, NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	syscall(SYS_close, fd);
	return words;
}

__attribute__((constructor)) static void begin(void)
{
	const char *dir = getenv("FAULTS_DIR"), *path = getenv("FAULTS_JOURNAL");
	const char *shared = getenv("FAULTS_CONTROL"), *ranges = getenv("FAULTS_MALLOC");
	if (ranges)
		note_allocators(ranges);
	if (path)
		journal = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	void *words = shared ? shared_words(shared) : NULL;
	if (!dir || strlen(dir) >= sizeof folder || (path && journal < 0) || words == MAP_FAILED) {
		fputs("faults.c: FAULTS_DIR, FAULTS_JOURNAL or FAULTS_CONTROL is wrong\n", stderr);
		abort();
	}
	control = words;
	strcpy(folder, dir);
	folder_length = strlen(dir);
}
