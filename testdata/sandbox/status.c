/* Prints what a process may do, where there is no /proc to read it from. */
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    unsigned long long bounding = 0;
    gid_t groups[64];
    struct rlimit limit;
    sigset_t blocked;
    if (syscall(SYS_capget, &header, data))
        perror("capget");
    for (int cap = 0; cap < 64; cap++)
        if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1)
            bounding |= 1ULL << cap;
    printf("uid %d %d, gid %d %d, groups", getuid(), geteuid(), getgid(), getegid());
    for (int i = 0, count = getgroups(64, groups); i < count; i++)
        printf(" %d", groups[i]);
    mode_t mask = umask(0);
    printf("\numask %04o, session leader %d\n", mask, getsid(0) == getpid() || getsid(0) == getppid());
    printf("CapInh %08x%08x\nCapPrm %08x%08x\nCapEff %08x%08x\nCapBnd %016llx\n", data[1].inheritable,
           data[0].inheritable, data[1].permitted, data[0].permitted, data[1].effective, data[0].effective, bounding);
    int ambient = 0;
    for (int cap = 0; cap < 64; cap++)
        ambient += prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1;
    printf("ambient %d, NoNewPrivs %d, Seccomp %d\n", ambient, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_SECCOMP));
    getrlimit(RLIMIT_CORE, &limit);
    printf("core %llu", (unsigned long long)limit.rlim_cur);
    getrlimit(RLIMIT_NOFILE, &limit);
    printf(", open files %llu\ndescriptors", (unsigned long long)limit.rlim_cur);
    for (int fd = 0; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            printf(" %d", fd);
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    int odd = 0;
    for (int number = 1; number < 65; number++) {
        struct sigaction action;
        odd += sigismember(&blocked, number) == 1;
        if (number != 32 && number != 33 && sigaction(number, NULL, &action) == 0)
            odd += action.sa_handler != SIG_DFL;
    }
    printf("\nsignals blocked, ignored or caught %d\n", odd);
    return 0;
}
