/* Tries to trace PID 1. */
#include <stdio.h>
#include <sys/ptrace.h>

int main(void) {
    puts(ptrace(PTRACE_SEIZE, 1, 0, 0) == 0 ? "traced" : "refused");
    return 0;
}
