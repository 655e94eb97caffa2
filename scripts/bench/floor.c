/* What the kernel alone takes for what a build must do at least. Prints seconds.
 *
 *   floor stat DIRECTORY      lstat of everything below it, once
 *   floor clone COUNT DIR     so many times: a process with its own namespaces, an overlay over DIR/lower mounted in
 *                             it, and /bin/true (static, at DIR/true) executed
 *   floor create DIR COUNT    so many files of 1,000 bytes made in DIR, 100 to a directory
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) { perror(what); exit(1); }

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void look(int dir) {
    DIR *stream = fdopendir(dir);
    if (!stream) fail("fdopendir");
    for (struct dirent *entry; (entry = readdir(stream));) {
        struct stat found;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (fstatat(dir, entry->d_name, &found, AT_SYMLINK_NOFOLLOW)) fail(entry->d_name);
        if (!S_ISDIR(found.st_mode)) continue;
        int below = openat(dir, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (below < 0) fail(entry->d_name);
        look(below);
    }
    closedir(stream);
}

static void sandbox(const char *dir, int number) {
    char upper[4096], options[16384];
    snprintf(upper, sizeof upper, "%s/%d", dir, number);
    if (mkdir(upper, 0755)) fail(upper);
    snprintf(upper, sizeof upper, "%s/%d/upper", dir, number);
    if (mkdir(upper, 0755)) fail(upper);
    snprintf(upper, sizeof upper, "%s/%d/work", dir, number);
    if (mkdir(upper, 0755)) fail(upper);
    struct clone_args args = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC,
        .exit_signal = SIGCHLD,
    };
    pid_t child = syscall(SYS_clone3, &args, sizeof args);
    if (child < 0) fail("clone3");
    if (child == 0) {
        snprintf(options, sizeof options, "lowerdir=%s/lower,upperdir=%s/%d/upper,workdir=%s/%d/work", dir, dir, number,
                 dir, number);
        snprintf(upper, sizeof upper, "%s/root", dir);
        if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)) fail("make private");
        if (mount("overlay", upper, "overlay", 0, options)) fail("mount overlay");
        snprintf(upper, sizeof upper, "%s/true", dir);
        execl(upper, "true", NULL);
        fail("execute true");
    }
    int status;
    if (waitpid(child, &status, 0) != child || status) fail("wait");
}

static void create(const char *dir, int count) {
    char path[4096], bytes[1000];
    memset(bytes, 'x', sizeof bytes);
    for (int n = 0; n < count; n++) {
        snprintf(path, sizeof path, "%s/%d", dir, n / 100);
        if (n % 100 == 0 && mkdir(path, 0755)) fail(path);
        snprintf(path, sizeof path, "%s/%d/%d", dir, n / 100, n);
        int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (file < 0 || write(file, bytes, sizeof bytes) != sizeof bytes) fail(path);
        close(file);
    }
}

int main(int count, char **words) {
    if (count < 3) return 2;
    double begin = now();
    if (!strcmp(words[1], "stat")) {
        int dir = open(words[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0) fail(words[2]);
        look(dir);
    } else if (!strcmp(words[1], "clone") && count == 4) {
        for (int n = 0; n < atoi(words[2]); n++) sandbox(words[3], n);
    } else if (!strcmp(words[1], "create") && count == 4) {
        create(words[2], atoi(words[3]));
    } else {
        return 2;
    }
    printf("%.4f\n", now() - begin);
    return 0;
}
