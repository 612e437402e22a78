/*
 * The kernel's clock as adjtimex(2) shows it, and another hand on it. A program
 * of its own, so that ptntp's word is not taken for what the kernel does.
 *
 *   timex            the state, as lines key=value
 *   timex step S     add S seconds to the clock
 *   timex freq PPM   set its frequency
 *   timex pll US     let the kernel's own loop take an offset of US away
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>

static int order(struct timex *timex)
{
	int state = adjtimex(timex);

	if (state < 0)
		perror("adjtimex");
	return state < 0;
}

static int show(void)
{
	struct timex timex = { 0 };

	if (order(&timex))
		return 1;
	printf("freq_ppm=%.6f\n", (double)timex.freq / 65536.0);
	printf("tick_us=%ld\n", (long)timex.tick);
	printf("offset=%ld\n", (long)timex.offset);
	printf("maxerror_us=%ld\n", (long)timex.maxerror);
	printf("esterror_us=%ld\n", (long)timex.esterror);
	printf("tai_s=%d\n", timex.tai);
	printf("unsync=%d\n", !!(timex.status & STA_UNSYNC));
	printf("nano=%d\n", !!(timex.status & STA_NANO));
	printf("pll=%d\n", !!(timex.status & STA_PLL));
	printf("leap=%s\n", timex.status & STA_INS ? "insert" :
			    timex.status & STA_DEL ? "delete" : "none");
	return 0;
}

int main(int argc, char **argv)
{
	struct timex timex = { 0 };
	double value;

	if (argc == 1)
		return show();
	if (argc != 3)
		return 2;
	value = atof(argv[2]);
	if (!strcmp(argv[1], "step")) {
		timex.modes = ADJ_SETOFFSET | ADJ_NANO;
		timex.time.tv_sec = (long)floor(value);
		timex.time.tv_usec = (long)((value - floor(value)) * 1e9);
	} else if (!strcmp(argv[1], "freq")) {
		timex.modes = ADJ_FREQUENCY;
		timex.freq = lround(value * 65536.0);
	} else if (!strcmp(argv[1], "pll")) {
		timex.modes = ADJ_OFFSET | ADJ_STATUS | ADJ_MICRO;
		timex.status = STA_PLL;
		timex.offset = lround(value);
	} else {
		return 2;
	}
	return order(&timex);
}
