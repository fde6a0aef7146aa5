// A host's name, which a query is made for.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ares.h"
#include "nameser.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *name = malloc(size + 1);
    memcpy(name, data, size);
    name[size] = 0;
    unsigned char *query;
    int length;
    if (ares_create_query(name, C_IN, T_AAAA, 1, 0, &query, &length, 0) == ARES_SUCCESS) ares_free_string(query);
    free(name);
    return 0;
}
