/* The system calls that change files, as faults.c has them done: each takes effect, or fails as it was
 * told, and is written into the journal. */
#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- Opening, unlinking, renaming ------------------------------------------------------------ */

static int open_noted(int at, const char *path, int flags, mode_t mode)
{
	const char *name = at == AT_FDCWD ? inside(path) : NULL;
	if (!name || !(flags & (O_CREAT | O_TRUNC)))
		return syscall(SYS_openat, at, path, flags, mode);
	pthread_mutex_lock(&order);
	int there = syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
	int fd = syscall(SYS_openat, at, path, flags, mode);
	if (fd >= 0 && !there)
		record('C', name, 0, "", 0);
	else if (fd >= 0 && (flags & O_TRUNC))
		record('T', name, 0, "", 0);
	pthread_mutex_unlock(&order);
	return fd;
}

#define MODE(flags, last)                                       \
	({                                                      \
		mode_t mode = 0;                                \
		if ((flags) & (O_CREAT | __O_TMPFILE)) {        \
			va_list rest;                           \
			va_start(rest, last);                   \
			mode = va_arg(rest, mode_t);            \
			va_end(rest);                           \
		}                                               \
		mode;                                           \
	})

int open64(const char *path, int flags, ...)
{
	return open_noted(AT_FDCWD, path, flags, MODE(flags, flags));
}

int open(const char *path, int flags, ...)
{
	return open_noted(AT_FDCWD, path, flags, MODE(flags, flags));
}

int openat64(int at, const char *path, int flags, ...)
{
	return open_noted(at, path, flags, MODE(flags, flags));
}

int openat(int at, const char *path, int flags, ...)
{
	return open_noted(at, path, flags, MODE(flags, flags));
}

int unlinkat(int at, const char *path, int flags)
{
	const char *name = inside(path);
	pthread_mutex_lock(&order);
	int result = syscall(SYS_unlinkat, at, path, flags);
	if (result == 0 && name)
		record('U', name, 0, "", 0);
	pthread_mutex_unlock(&order);
	return result;
}

int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

int rename(const char *from, const char *to)
{
	const char *old = inside(from), *new = inside(to);
	pthread_mutex_lock(&order);
	int result = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
	if (result == 0 && old && new)
		record('R', old, 0, new, strlen(new));
	else if (result == 0 && (old || new))
		record('X', old ? old : new, 0, "rename across the folder", 24);
	pthread_mutex_unlock(&order);
	return result;
}

int link(const char *from, const char *to)
{
	int result = syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
	if (result == 0 && inside(to))
		not_modelled(inside(to), "link");
	return result;
}

/* ---- Writing --------------------------------------------------------------------------------- */

/* How much of a write the full disk takes: all of it, a part, or nothing (-1, ENOSPC). */
static ssize_t room(off_t offset, size_t length)
{
	int64_t limit = word(LIMIT);
	if (limit == 0 || offset + (int64_t)length <= limit)
		return length;
	count(INJECTED);
	if (offset < limit)
		return limit - offset;
	errno = ENOSPC;
	return -1;
}

/* Writes at the offset; with `moving`, as write(2) does, where the file stands. */
static ssize_t write_noted(int fd, const char *name, const void *data, size_t length, off_t offset,
			   int moving)
{
	int error = ordered_to_fail(WRITE);
	count(WRITES);
	if (error) {
		errno = error;
		return -1;
	}
	pthread_mutex_lock(&order);
	if (moving)
		offset = lseek(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
	ssize_t done = room(offset, length);
	if (done >= 0)
		done = moving ? syscall(SYS_write, fd, data, done) :
				syscall(SYS_pwrite64, fd, data, done, offset);
	if (done > 0)
		record('W', name, offset, data, done);
	pthread_mutex_unlock(&order);
	return done;
}

ssize_t write(int fd, const void *data, size_t length)
{
	char path[PATH_MAX];
	const char *name = fd == journal ? NULL : name_of(fd, path);
	if (!name)
		return syscall(SYS_write, fd, data, length);
	return write_noted(fd, name, data, length, 0, 1);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
	char path[PATH_MAX];
	const char *name = name_of(fd, path);
	if (!name)
		return syscall(SYS_pwrite64, fd, data, length, offset);
	return write_noted(fd, name, data, length, offset, 0);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
	return pwrite64(fd, data, length, offset);
}

/* The first piece alone: a short write, after which its caller goes on with the rest. */
ssize_t writev(int fd, const struct iovec *pieces, int count)
{
	char path[PATH_MAX];
	const char *name = name_of(fd, path);
	if (!name || count == 0)
		return syscall(SYS_writev, fd, pieces, count);
	return write_noted(fd, name, pieces[0].iov_base, pieces[0].iov_len, 0, 1);
}

int ftruncate64(int fd, off64_t size)
{
	char path[PATH_MAX];
	const char *name = name_of(fd, path);
	if (!name)
		return syscall(SYS_ftruncate, fd, size);
	int error = ordered_to_fail(WRITE);
	count(WRITES);
	if (error) {
		errno = error;
		return -1;
	}
	pthread_mutex_lock(&order);
	int result = syscall(SYS_ftruncate, fd, size);
	if (result == 0)
		record('T', name, size, "", 0);
	pthread_mutex_unlock(&order);
	return result;
}

int ftruncate(int fd, off_t size)
{
	return ftruncate64(fd, size);
}

/* ---- Syncing --------------------------------------------------------------------------------- */

static int sync_noted(int fd, long call)
{
	char path[PATH_MAX];
	const char *name = name_of(fd, path);
	if (!name)
		return syscall(call, fd);
	pthread_mutex_lock(&order);
	uint64_t covered = journal_length;
	pthread_mutex_unlock(&order);
	int error = ordered_to_fail(SYNC);
	count(SYNCS);
	/* Without a journal no power will be cut: what the kernel has is there for the next server. */
	int result = error ? -1 : journal < 0 ? 0 : syscall(call, fd);
	if (error)
		errno = error;
	pthread_mutex_lock(&order);
	record(result == 0 ? 'S' : 'F', name, covered, "", 0);
	pthread_mutex_unlock(&order);
	return result;
}

int fsync(int fd)
{
	return sync_noted(fd, SYS_fsync);
}

int fdatasync(int fd)
{
	return sync_noted(fd, SYS_fdatasync);
}

/* ---- What is not modelled -------------------------------------------------------------------- */

void *mmap64(void *where, size_t length, int protection, int flags, int fd, off64_t offset)
{
	char path[PATH_MAX];
	const char *name = NULL;
	if (fd >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE))
		name = name_of(fd, path);
	size_t end = name ? strlen(name) : 0;
	if (name && !(end >= 4 && strcmp(name + end - 4, "-shm") == 0))
		not_modelled(name, "mmap");
	return (void *)syscall(SYS_mmap, where, length, protection, flags, fd, offset);
}

void *mmap(void *where, size_t length, int protection, int flags, int fd, off_t offset)
{
	return mmap64(where, length, protection, flags, fd, offset);
}

#define REFUSED(what, fd)                            \
	do {                                         \
		char path[PATH_MAX];                 \
		const char *name = name_of(fd, path); \
		if (name)                            \
			not_modelled(name, what);    \
	} while (0)

int fallocate64(int fd, int mode, off64_t offset, off64_t length)
{
	REFUSED("fallocate", fd);
	return syscall(SYS_fallocate, fd, mode, offset, length);
}

int posix_fallocate64(int fd, off64_t offset, off64_t length)
{
	REFUSED("posix_fallocate", fd);
	return syscall(SYS_fallocate, fd, 0, offset, length) == 0 ? 0 : errno;
}

ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *to_at, size_t length, unsigned flags)
{
	REFUSED("copy_file_range", to);
	return syscall(SYS_copy_file_range, from, at, to, to_at, length, flags);
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t length)
{
	REFUSED("sendfile", to);
	return syscall(SYS_sendfile, to, from, at, length);
}
