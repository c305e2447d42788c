/* Ctrl-C, and SIGTERM, which is the same. While nothing is worth keeping it ends the program at once. Once a
 * generation runs, the first one only sets a flag that is looked at between
 * passes, so that what was generated is still printed; the second one ends the
 * program at once all the same.
 *
 * The handler does nothing but this, without SA_RESTART: a read of the terminal
 * that waits for the user is interrupted too. */
#include "cli/cli.h"

#include <signal.h>
#include <unistd.h>

static volatile sig_atomic_t held, interrupted;

static void on_interrupt(int signal_number)
{
	(void)signal_number;
	if (!held || interrupted)
		_exit(128 + signal_number);
	interrupted = 1;
}

void hr_cli_catch_interrupts(void)
{
	struct sigaction action = {.sa_handler = on_interrupt};
	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	/* A closed pipe and a file at its limit are errors of the write, not deaths of the program. */
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	sigemptyset(&ignore.sa_mask);
	sigaction(SIGPIPE, &ignore, NULL);
	sigaction(SIGXFSZ, &ignore, NULL);
}

void hr_cli_hold_interrupts(bool hold) { held = hold; }

bool hr_cli_interrupted(void) { return interrupted; }
