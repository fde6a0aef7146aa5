// Parses JSON, prints it and minifies it, as cJSON's own fuzz target does; without the four bytes of flags that one wants first.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cJSON.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    if (!text) return 0;
    if (size) memcpy(text, data, size);
    text[size] = 0;
    cJSON *json = cJSON_ParseWithLength(text, size);
    if (json) {
        free(cJSON_Print(json));
        free(cJSON_PrintBuffered(json, 1, 0));
        cJSON_Delete(json);
        cJSON_Minify(text);
    }
    free(text);
    return 0;
}
