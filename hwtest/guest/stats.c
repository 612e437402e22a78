/*
 * What numbers are like: one a line on standard input; busybox's awk has no roots.
 *
 *   stats KEY    count, mean, deviation (about the mean), rms (about zero), p50, p99 or
 *                max (of the absolute values)
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 1000000

static double values[MOST];
static long count;

static double mean(void)
{
	double sum = 0;

	for (long i = 0; i < count; i++)
		sum += values[i];
	return sum / (double)count;
}

static double rms(double about)
{
	double sum = 0;

	for (long i = 0; i < count; i++)
		sum += (values[i] - about) * (values[i] - about);
	return sqrt(sum / (double)count);
}

static int compare_absolute(const void *a, const void *b)
{
	double first = fabs(*(const double *)a), second = fabs(*(const double *)b);

	return (first > second) - (first < second);
}

/* The least that so many percent don't exceed. */
static double percentile(double percent)
{
	long index = (long)ceil((double)count * percent / 100) - 1;

	qsort(values, (size_t)count, sizeof(*values), compare_absolute);
	return fabs(values[index]);
}

int main(int argc, char **argv)
{
	const char *key = argc == 2 ? argv[1] : "";

	while (count < MOST && scanf("%lf", &values[count]) == 1)
		count++;
	if (!strcmp(key, "count"))
		printf("%ld\n", count);
	else if (!count)
		return 1;
	else if (!strcmp(key, "mean"))
		printf("%g\n", mean());
	else if (!strcmp(key, "deviation"))
		printf("%g\n", rms(mean()));
	else if (!strcmp(key, "rms"))
		printf("%g\n", rms(0));
	else if (!strcmp(key, "p50"))
		printf("%g\n", percentile(50));
	else if (!strcmp(key, "p99"))
		printf("%g\n", percentile(99));
	else if (!strcmp(key, "max"))
		printf("%g\n", percentile(100));
	else
		return 2;
	return 0;
}
