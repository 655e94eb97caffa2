/* Without a library, for the 32-bit entry point: ends well if calls go through and mount(2) is EPERM. */
static int call(int number, int a, int b, int c) {
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

void _start(void) {
    int ok = call(20 /* getpid */, 0, 0, 0) > 0 && call(21 /* mount */, 0, 0, 0) == -1;
    call(1 /* exit */, !ok, 0, 0);
    __builtin_trap();
}
