/* A task reads its input from standard input and writes its output to standard output. Exit code 0 means
 * that it completed. Standard error goes to its log. */

#include <stdio.h>
#include <string.h>

/* Longer names are cut. */
#define NAME_MAX 1024

int main(void) {
    char name[NAME_MAX + 1];
    size_t length = fread(name, 1, NAME_MAX, stdin);
    name[length] = '\0';
    name[strcspn(name, "\r\n")] = '\0';
    if (name[0] == '\0') {
        fputs("say whom to greet\n", stderr);
        return 1;
    }
    printf("Hello, %s!", name);
    return 0;
}
