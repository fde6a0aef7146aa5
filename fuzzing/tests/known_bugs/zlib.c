// A gzip file that comes in pieces, with its header wanted.
#include <stdint.h>
#include <stdlib.h>

#include "zlib.h"

#define PIECE 16
#define EXTRA 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    unsigned char out[256], *extra = malloc(EXTRA);
    z_stream stream = {0};
    gz_header header = {0};
    header.extra = extra;
    header.extra_max = EXTRA;
    inflateInit2(&stream, 16 + MAX_WBITS);
    inflateGetHeader(&stream, &header);
    for (size_t at = 0; at < size; at += PIECE) {
        stream.next_in = (unsigned char *)data + at;
        stream.avail_in = size - at < PIECE ? size - at : PIECE;
        stream.next_out = out;
        stream.avail_out = sizeof out;
        if (inflate(&stream, Z_NO_FLUSH) != Z_OK) break;
    }
    inflateEnd(&stream);
    free(extra);
    return 0;
}
