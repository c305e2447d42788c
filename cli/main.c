/* The program: picks the subcommand. */
#include "headrace/headrace.h"

#include <stdio.h>

int main(void)
{
	printf("headrace %s\n", hr_version());
	return 0;
}
