// Reads a PNG from memory, converted as browsers do. Checksums may be wrong, or hardly any changed input would be read.
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "png.h"

enum { MOST_PIXELS_A_SIDE = 1024, MOST_BYTES = 1 << 20 };

struct input {
    const uint8_t *data;
    size_t left;
};

static void read_bytes(png_structp png, png_bytep to, size_t size) {
    struct input *input = png_get_io_ptr(png);
    if (size > input->left) png_error(png, "the input's end");
    memcpy(to, input->data, size);
    input->data += size;
    input->left -= size;
}

// libpng only warns of a chunk that says that it has a gigabyte, and takes the memory for it.
static png_voidp take(png_structp png, png_alloc_size_t size) {
    (void)png;
    return size > MOST_BYTES ? NULL : malloc(size);
}

static void give_back(png_structp png, png_voidp memory) {
    (void)png;
    free(memory);
}

// Messages would cost a call of the system each.
static void quiet(png_structp png, png_const_charp message) {
    (void)png, (void)message;
}

static void failed(png_structp png, png_const_charp message) {
    (void)message;
    png_longjmp(png, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, size};
    png_structp png =
        png_create_read_struct_2(PNG_LIBPNG_VER_STRING, NULL, failed, quiet, NULL, take, give_back);
    if (!png) return 0;
    png_infop info = png_create_info_struct(png);
    png_bytep volatile row = NULL;
    if (info && !setjmp(png_jmpbuf(png))) {
        png_set_user_limits(png, MOST_PIXELS_A_SIDE, MOST_PIXELS_A_SIDE);
        png_set_crc_action(png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
        png_set_option(png, PNG_IGNORE_ADLER32, PNG_OPTION_ON);
        png_set_read_fn(png, &input, read_bytes);
        png_read_info(png, info);
        png_set_expand(png);
        png_set_gray_to_rgb(png);
        png_set_scale_16(png);
        png_set_packing(png);
        int passes = png_set_interlace_handling(png);
        png_read_update_info(png, info);
        png_uint_32 height = png_get_image_height(png, info);
        row = malloc(png_get_rowbytes(png, info));
        for (int pass = 0; row && pass < passes; pass++)
            for (png_uint_32 y = 0; y < height; y++) png_read_row(png, row, NULL);
        png_read_end(png, info);
    }
    free(row);
    png_destroy_read_struct(&png, &info, NULL);
    return 0;
}
