/* In place of an image's dynamic loader: the kernel runs it when the image executes a program of the machine through
   /proc/self/exe. Tries to write to that program, and to PID 1's, and says what came of it. Uses no library. */
#include <asm/unistd.h>

static long call(long number, long a, long b, long c, long d) {
    register long r10 __asm__("r10") = d;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

static void say(const char *text) {
    long length = 0;
    while (text[length])
        length++;
    call(__NR_write, 1, (long)text, length, 0);
}

static void attack(const char *program, const char *opened, const char *changed) {
    for (int i = 0; i < 1000; i++)
        if (call(__NR_open, (long)program, 1 /* O_WRONLY */, 0, 0) >= 0) {
            say(opened);
            break;
        }
    if (call(__NR_chmod, (long)program, 0777, 0, 0) == 0)
        say(changed);
}

void _start(void) {
    say("running\n");
    attack("/proc/self/exe", "opened self\n", "changed self\n");
    attack("/proc/1/exe", "opened init\n", "changed init\n");
    call(__NR_exit_group, 0, 0, 0, 0);
    __builtin_unreachable();
}
