/* Makes the nth write, fsync, rename or open below a folder fail. Loaded with LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char below[PATH_MAX];
static int fail_at, fail_with, lasting, counted;

/* error EMFILE is for opens, every other one for writes; lasting: all later calls fail, too. */
void faulty_arm(const char *folder, int nth, int error, int lasts) {
    snprintf(below, sizeof below, "%s", folder);
    fail_at = nth, fail_with = error, lasting = lasts, counted = 0;
}

int faulty_count(void) { return counted; }

static int fails(const char *path, int opening) {
    if (!fail_at || opening != (fail_with == EMFILE) || strncmp(path, below, strlen(below))) return 0;
    counted++;
    if (counted != fail_at && !(lasting && counted > fail_at)) return 0;
    errno = fail_with;
    return 1;
}

static int fd_fails(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = fail_at ? readlink(link, path, sizeof path - 1) : -1;
    if (size < 0) return 0;
    path[size] = 0;
    return fails(path, 0);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ON_FD(type, name, parameters, arguments) \
    type name parameters { return fd_fails(fd) ? -1 : REAL(name) arguments; }

ON_FD(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
ON_FD(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
ON_FD(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
ON_FD(int, fsync, (int fd), (fd))
ON_FD(int, fdatasync, (int fd), (fd))
ON_FD(int, ftruncate, (int fd, off_t size), (fd, size))
ON_FD(int, ftruncate64, (int fd, off64_t size), (fd, size))

int rename(const char *from, const char *to) { return fails(to, 0) ? -1 : REAL(rename)(from, to); }

static int mode_of(int flags, va_list arguments) { return flags & O_CREAT ? va_arg(arguments, int) : 0; }

#define OPEN(name)                                              \
    int name(const char *path, int flags, ...) {                \
        va_list arguments;                                      \
        va_start(arguments, flags);                             \
        int mode = mode_of(flags, arguments);                   \
        va_end(arguments);                                      \
        return fails(path, 1) ? -1 : REAL(name)(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
