/* Notices: what a user should know once and that is not an error, such as a
 * fallback and its reason. Libraries never print: they call the sink that the
 * program gave them. Thread-safe if the sink is. */
#ifndef HR_BASE_NOTICE_H
#define HR_BASE_NOTICE_H

struct hr_notice_sink {
	void (*fn)(void *user, const char *sentence); /* NULL: notices are dropped */
	void *user;
};

void hr__notice(const struct hr_notice_sink *sink, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
