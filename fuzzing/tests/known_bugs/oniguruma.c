// A regular expression, a zero byte, and a text that is searched with it, in two encodings.
#include <stdint.h>
#include <string.h>

#include "oniguruma.h"

static void search(const uint8_t *data, const uint8_t *end, OnigEncoding encoding) {
    const uint8_t *zero = memchr(data, 0, end - data);
    const uint8_t *pattern_end = zero ? zero : end, *text = zero ? zero + 1 : end;
    regex_t *regex;
    if (onig_new(&regex, data, pattern_end, ONIG_OPTION_DEFAULT, encoding, ONIG_SYNTAX_DEFAULT, NULL) != ONIG_NORMAL)
        return;
    onig_search(regex, text, end, text, end, NULL, ONIG_OPTION_NONE);
    onig_free(regex);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    search(data, data + size, ONIG_ENCODING_ASCII);
    search(data, data + size, ONIG_ENCODING_UTF8);
    return 0;
}
