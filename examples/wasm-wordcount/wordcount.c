/* Counts lines, words and bytes of what it is sent, and answers over HTTP or to an event.
 *
 * A WASI command: the request is its standard input and its environment, the answer its standard output.
 *     clang --target=wasm32-wasi -Oz -s -o wordcount.wasm wordcount.c      (Debian: clang lld wasi-libc)
 *     python -m ziglang cc --target=wasm32-wasi -Oz -s -o wordcount.wasm wordcount.c
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char piece[65536];

int main(void) {
    const char *method = getenv("REQUEST_METHOD");
    if (method && strcmp(method, "POST") != 0) {
        puts("Status: 405 Method Not Allowed\nContent-Type: text/plain\nAllow: POST\n\nPOST a text, and its words are counted.");
        return 0;
    }
    unsigned long lines = 0, words = 0, bytes = 0;
    int inside = 0;
    size_t size;
    while ((size = fread(piece, 1, sizeof piece, stdin)) > 0) {
        bytes += size;
        for (size_t i = 0; i < size; i++) {
            lines += piece[i] == '\n';
            int space = isspace((unsigned char)piece[i]) != 0;
            words += inside == 0 && !space;
            inside = !space;
        }
    }
    fprintf(stderr, "%lu bytes counted\n", bytes); /* shown by: fuyun logs wordcount */
    if (method)
        puts("Content-Type: application/json\n");
    printf("{\"lines\": %lu, \"words\": %lu, \"bytes\": %lu}\n", lines, words, bytes);
    return 0;
}
