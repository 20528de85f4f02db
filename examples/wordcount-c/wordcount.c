/* Counts the words of a text: standard input to standard output, as JSON. It must never print
 * anything else than examples/wordcount does for the same bytes.
 *
 * A word is a run of ASCII letters and digits, in lower case. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The number of the most frequent words in the result. */
#define TOP 10

/* Slots of the table at first, and the next larger power of two whenever it is half full. */
#define SLOTS_FIRST 1024

struct word {
    char *text;
    size_t length;
    uint64_t times;
};

static struct word *table;
static size_t slots, used;

static void *need(void *memory) {
    if (memory == NULL) {
        fputs("wordcount: the text has more words than there is memory for\n", stderr);
        exit(1);
    }
    return memory;
}

/* FNV-1a: short, and good enough where nobody gains by slowing down their own task. */
static size_t hash(const char *text, size_t length) {
    uint64_t sum = 14695981039346656037u;
    for (size_t at = 0; at < length; at++)
        sum = (sum ^ (unsigned char)text[at]) * 1099511628211u;
    return (size_t)(sum ^ sum >> 32);
}

/* The slot that has the word, or the free one where it belongs. */
static struct word *find(const char *text, size_t length) {
    size_t slot = hash(text, length) & (slots - 1);
    while (table[slot].text &&
           (table[slot].length != length || memcmp(table[slot].text, text, length)))
        slot = (slot + 1) & (slots - 1);
    return &table[slot];
}

static void grow(void) {
    struct word *old = table;
    size_t before = slots;
    slots = before ? 2 * before : SLOTS_FIRST;
    table = need(calloc(slots, sizeof *table));
    for (size_t slot = 0; slot < before; slot++)
        if (old[slot].text)
            *find(old[slot].text, old[slot].length) = old[slot];
    free(old);
}

static void count(const char *text, size_t length) {
    if (2 * used >= slots)
        grow();
    struct word *word = find(text, length);
    if (!word->text) {
        word->text = memcpy(need(malloc(length)), text, length);
        word->length = length;
        used++;
    }
    word->times++;
}

/* The most frequent first; words that are equally frequent in alphabetical order. */
static int compare(const void *left, const void *right) {
    const struct word *a = left, *b = right;
    if (a->times != b->times)
        return a->times < b->times ? 1 : -1;
    size_t shorter = a->length < b->length ? a->length : b->length;
    int order = memcmp(a->text, b->text, shorter);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

static int is_letter(int byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9');
}

int main(void) {
    uint64_t lines = 0, words = 0, bytes = 0;
    int byte, last = '\n';
    char *word = NULL;
    size_t length = 0, room = 0;

    do {
        byte = getchar();
        if (byte != EOF) {
            bytes++;
            lines += byte == '\n';
            last = byte;
        }
        int lower = byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte;
        if (is_letter(lower)) {
            if (length == room)
                word = need(realloc(word, room = 2 * room + 64));
            word[length++] = (char)lower;
        } else if (length > 0) {
            count(word, length);
            words++;
            length = 0;
        }
    } while (byte != EOF);
    if (ferror(stdin)) {
        perror("wordcount");
        return 1;
    }
    /* The last line counts even without a newline at its end. */
    lines += last != '\n';

    size_t found = 0;
    for (size_t slot = 0; slot < slots; slot++)
        if (table[slot].text)
            table[found++] = table[slot];
    qsort(table, found, sizeof *table, compare);

    printf("{\"lines\":%llu,\"words\":%llu,\"bytes\":%llu,\"top\":[", (unsigned long long)lines,
           (unsigned long long)words, (unsigned long long)bytes);
    for (size_t at = 0; at < found && at < TOP; at++)
        printf("%s[\"%.*s\",%llu]", at ? "," : "", (int)table[at].length, table[at].text,
               (unsigned long long)table[at].times);
    fputs("]}", stdout);
    return fflush(stdout) ? 1 : 0;
}
