/* Starts a command as a container without privileges does: few capabilities, and a filter that forbids
 * namespaces and mounts and hides clone3. The first argument is the set of
 * capabilities in hexadecimal; with its highest bit, only mounts are forbidden. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define REFUSE(call, error) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))

static struct sock_filter filter[] = {
    LOAD(nr),
    REFUSE(435 /* clone3 */, ENOSYS),
    REFUSE(SYS_unshare, EPERM),
    REFUSE(SYS_setns, EPERM),
    REFUSE(SYS_mount, EPERM),
    REFUSE(SYS_umount2, EPERM),
    REFUSE(SYS_pivot_root, EPERM),
    REFUSE(SYS_keyctl, EPERM),
    REFUSE(428 /* open_tree */, EPERM),
    REFUSE(429 /* move_mount */, EPERM),
    REFUSE(430 /* fsopen */, EPERM),
    REFUSE(442 /* mount_setattr */, EPERM),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
    LOAD(args[0]),
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x7e020000, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

/* Namespaces may be made and nothing may be mounted, as under a policy for containers. */
static struct sock_filter without_mounts[] = {
    LOAD(nr),
    REFUSE(SYS_mount, EACCES),
    REFUSE(429 /* move_mount */, EACCES),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

static void fail(const char *what) {
    perror(what);
    exit(120);
}

int main(int argc, char **argv) {
    unsigned long long keep = strtoull(argc > 2 ? argv[1] : "0", NULL, 16);
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (keep >> 63)
        program = (struct sock_fprog){sizeof without_mounts / sizeof *without_mounts, without_mounts};
    if (argc < 3)
        fail("usage: pod CAPABILITIES COMMAND...");
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
        fail("seccomp");
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (!(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
            fail("bounding set");
    execvp(argv[2], argv + 2);
    fail(argv[2]);
}
