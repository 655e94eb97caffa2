/* Starts a command where the kernel refuses to mount some file systems, as a policy or a missing module does: the first
 * argument names them, with commas between. The calls of all its processes come here first; what they name decides. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FSOPEN 430
#define ASK(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF)

static struct sock_filter filter[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    ASK(FSOPEN),
    ASK(SYS_mount),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

static void fail(const char *what) {
    perror(what);
    exit(120);
}

static void send_descriptor(int socket, int descriptor) {
    char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    if (sendmsg(socket, &message, 0) != 1)
        fail("sendmsg");
}

static int receive_descriptor(int socket) {
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int descriptor;
    if (recvmsg(socket, &message, 0) != 1 || !CMSG_FIRSTHDR(&message))
        fail("recvmsg");
    memcpy(&descriptor, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
    return descriptor;
}

/* Whether the name of a file system, in another process's memory, is one of `refused`. */
static int is_refused(pid_t pid, uint64_t address, const char *refused) {
    char path[64], name[64] = {0};
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int memory = open(path, O_RDONLY | O_CLOEXEC);
    if (memory < 0 || !address)
        return 0;
    ssize_t length = pread(memory, name, sizeof name - 1, (off_t)address);
    close(memory);
    if (length <= 0)
        return 0;
    size_t size = strlen(name);
    for (const char *word = refused; *word; word += strcspn(word, ","), word += *word == ',')
        if (size && strncmp(word, name, size) == 0 && (word[size] == ',' || !word[size]))
            return 1;
    return 0;
}

static void serve(int listener, const char *refused) {
    for (;;) {
        struct pollfd waiting = {listener, POLLIN, 0};
        if (poll(&waiting, 1, -1) < 0 && errno != EINTR)
            fail("poll");
        if (waiting.revents & (POLLHUP | POLLERR))
            return;
        struct seccomp_notif request = {0};
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request))
            continue;
        uint64_t name = request.data.args[request.data.nr == FSOPEN ? 0 : 2];
        struct seccomp_notif_resp answer = {.id = request.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        if (is_refused((pid_t)request.pid, name, refused)) {
            answer.flags = 0;
            answer.error = -EPERM;
        }
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
}

int main(int argc, char **argv) {
    int pair[2], status;
    if (argc < 3)
        fail("usage: policy FILE-SYSTEMS COMMAND...");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        fail("socketpair");
    pid_t child = fork();
    if (child == 0) {
        struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
        long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
        if (listener < 0)
            fail("seccomp");
        send_descriptor(pair[1], (int)listener);
        close((int)listener);
        execvp(argv[2], argv + 2);
        fail(argv[2]);
    }
    /* Its end is when the last process under the filter is gone. */
    close(pair[1]);
    serve(receive_descriptor(pair[0]), argv[1]);
    if (waitpid(child, &status, 0) < 0)
        fail("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
