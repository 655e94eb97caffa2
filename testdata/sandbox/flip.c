/* Swaps two names until a third one is there, and no fewer than ten thousand times; says how often. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int count, char **names) {
    long swaps = 0;
    if (count != 4)
        return 2;
    while (swaps < 10000 || access(names[3], F_OK) != 0) {
        if (renameat2(AT_FDCWD, names[1], AT_FDCWD, names[2], RENAME_EXCHANGE) != 0) {
            perror("swap");
            return 1;
        }
        swaps++;
    }
    printf("swapped %ld times\n", swaps);
    return 0;
}
