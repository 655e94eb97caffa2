/* Makes each system call that a sandbox refuses, and some that it allows, and prints the error number. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void verdict(const char *name, long result) {
    printf("%s %s\n", name, result >= 0 ? "ok" : errno == EPERM ? "EPERM" : errno == ENOSYS ? "ENOSYS" : "other");
}

int main(void) {
    verdict("socket AF_INET", syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
    verdict("socket AF_UNIX", syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0));
    verdict("socket AF_ALG", syscall(SYS_socket, 38, SOCK_SEQPACKET, 0));
    verdict("socket AF_VSOCK", syscall(SYS_socket, 40, SOCK_STREAM, 0));
    verdict("io_uring_setup", syscall(SYS_io_uring_setup, 0, 0));
    verdict("userfaultfd", syscall(SYS_userfaultfd, 0));
    verdict("keyctl", syscall(SYS_keyctl, 0, 0));
    verdict("add_key", syscall(SYS_add_key, "user", "x", "x", 1, -3));
    verdict("bpf", syscall(SYS_bpf, 0, 0, 0));
    verdict("perf_event_open", syscall(SYS_perf_event_open, 0, 0, -1, -1, 0));
    verdict("mount", syscall(SYS_mount, "none", "/dev/shm", "tmpfs", 0, 0));
    verdict("umount2", syscall(SYS_umount2, "/proc", 2));
    verdict("unshare NEWUSER", syscall(SYS_unshare, 0x10000000));
    verdict("setns", syscall(SYS_setns, -1, 0));
    verdict("clone3", syscall(SYS_clone3, 0, 0));
    verdict("open_by_handle_at", syscall(SYS_open_by_handle_at, -1, 0, 0));
    verdict("open_tree", syscall(SYS_open_tree, -100, "/", 1));
    verdict("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
    verdict("pivot_root", syscall(SYS_pivot_root, ".", "."));
    verdict("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0));
    verdict("personality ADDR_NO_RANDOMIZE", syscall(SYS_personality, 0x40000));
    verdict("personality query", syscall(SYS_personality, 0xffffffff));
    verdict("call 1000", syscall(1000));
    verdict("getpid", syscall(SYS_getpid));
    return 0;
}
