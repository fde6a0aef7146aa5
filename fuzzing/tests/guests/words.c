/* Goes a way of its own for each of two words, neither of which is found by chance. */
#include <string.h>
#include <unistd.h>

static volatile int taken;

int main(void)
{
    char in[64] = "";
    unsigned long word;
    if (read(0, in, sizeof in) < 0)
        return 3;
    memcpy(&word, in, sizeof word);
    if (word == 0x2174736563657250) /* Precest! */
        taken = 1;
    if (word == 0x21646e6f63657347) /* Gsecond! */
        taken = 2;
    return 0;
}
