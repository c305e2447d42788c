/* Values as people write them: numbers, sizes, memory maps, files. What they
 * mean is decided here; the flags that carry them are in flags.c. */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

bool hr_cli_parse_int(const char *text, long long min, long long max, long long *value)
{
	char *end;
	errno = 0;
	long long x = strtoll(text, &end, 10);
	if (end == text || *end || isspace((unsigned char)*text) || errno || x < min || x > max)
		return false;
	*value = x;
	return true;
}

bool hr_cli_parse_real(const char *text, double min, double max, double *value)
{
	char  *end;
	double x = strtod(text, &end);
	if (end == text || *end || isspace((unsigned char)*text) || !(x >= min && x <= max))
		return false;
	*value = x;
	return true;
}

bool hr_cli_parse_size(const char *text, uint64_t *bytes)
{
	static const char letters[] = "KMGT";
	size_t            digits = strspn(text, "0123456789.");
	char             *end;
	double            x = strtod(text, &end);
	if (!digits || end != text + digits)
		return false;
	const char *letter = *end ? strchr(letters, toupper((unsigned char)*end)) : NULL;
	int         power = letter ? (int)(letter - letters) + 1 : 0;
	if (power)
		end++;
	bool binary = power && (!*end || !strcasecmp(end, "iB"));
	if (!binary && *end && strcasecmp(end, "B"))
		return false;
	x *= pow(binary ? 1024 : 1000, power);
	if (!(x >= 1 && x < 0x1p63))
		return false;
	*bytes = (uint64_t)x;
	return true;
}

char *hr_cli_quote(const char *text)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,+@";
	if (*text && strspn(text, plain) == strlen(text))
		return strdup(text);
	char *out = malloc(4 * strlen(text) + 3), *p = out;
	if (!out)
		return NULL;
	*p++ = '\'';
	for (; *text; text++) {
		if (*text == '\'')
			p = stpcpy(p, "'\\'");
		*p++ = *text;
	}
	strcpy(p, "'");
	return out;
}

char *hr_cli_read_file(const char *path, const char *what)
{
	bool  is_stdin = !strcmp(path, "-");
	FILE *f = is_stdin ? stdin : fopen(path, "re");
	char *text = NULL;
	if (!f) {
		hr_cli_fail("The %s %s cannot be opened: %s.", what, path, strerror(errno));
		return NULL;
	}
	size_t n = 0, capacity = 0, got;
	do {
		if (capacity - n < 2) {
			capacity = capacity ? 2 * capacity : 1 << 16;
			char *larger = realloc(text, capacity);
			if (!larger)
				break;
			text = larger;
		}
		got = fread(text + n, 1, capacity - n - 1, f);
		n += got;
	} while (got);
	if (!feof(f)) {
		hr_cli_fail("The %s %s cannot be read: %s.", what, path, strerror(errno));
		free(text);
		text = NULL;
	} else if (memchr(text, 0, n)) {
		hr_cli_fail("The %s %s holds a zero byte; it should be UTF-8 text.", what, path);
		free(text);
		text = NULL;
	} else {
		text[n] = 0;
	}
	if (!is_stdin)
		fclose(f);
	return text;
}

/* One entry of --max-memory: "8GiB" or a number of bytes. */
static bool read_memory_value(const json_t *value, uint64_t *bytes)
{
	if (json_is_string(value))
		return hr_cli_parse_size(json_string_value(value), bytes);
	*bytes = (uint64_t)json_integer_value(value);
	return json_is_integer(value) && json_integer_value(value) > 0;
}

/* {"0": device, "cpu": host}, as Accelerate has it. Without "0" no GPU may be used:
 * the model runs on the CPU, and "cpu" is the memory of that device. */
static int apply_max_memory(struct hr_cli_options *o)
{
	json_error_t where;
	json_t      *map = json_loads(o->max_memory, 0, &where);
	int          code = HR_EXIT_USAGE;
	uint64_t     device = 0, host = 0;
	const char  *key;
	json_t      *value;

	if (!json_is_object(map)) {
		hr_cli_fail_usage(
		    "--max-memory wants a JSON object such as '{\"0\": \"8GiB\", \"cpu\": \"30GiB\"}', not %s.",
		    o->max_memory);
		goto done;
	}
	json_object_foreach(map, key, value)
	{
		uint64_t *to = !strcmp(key, "0") ? &device : !strcmp(key, "cpu") ? &host : NULL;
		if (!to) {
			hr_cli_fail_usage(
			    "--max-memory has no place for \"%s\": \"0\" is the device, \"cpu\" the host's memory, "
			    "and the rest is read from the files as they are.",
			    key);
			goto done;
		}
		if (!read_memory_value(value, to)) {
			hr_cli_fail_usage("--max-memory: the value of \"%s\" is not a size such as \"8GiB\".", key);
			goto done;
		}
	}
	if (!device && host && (!strcmp(o->plan.device, "auto") || !strcmp(o->plan.device, "cpu"))) {
		o->plan.device = "cpu";
		device = host;
		host = 0;
	}
	if ((device && o->plan.device_memory_bytes) || (host && o->plan.host_memory_bytes)) {
		hr_cli_fail_usage("--max-memory and --%s-memory set the same limit; give one of them.",
		                  device && o->plan.device_memory_bytes ? "device" : "host");
		goto done;
	}
	if (device)
		o->plan.device_memory_bytes = device;
	if (host)
		o->plan.host_memory_bytes = host;
	code = HR_EXIT_OK;
done:
	json_decref(map);
	return code;
}

/* Could `path` be written at the end? Asked before anything is loaded; leaves nothing behind. */
static int check_writable(const char *path, const char *what)
{
	struct stat st;
	char        probe[4096];
	const char *slash = strrchr(path, '/');
	if (!stat(path, &st) && !S_ISREG(st.st_mode))
		return hr_cli_fail("The %s cannot be written to %s, which is not a regular file.", what, path);
	snprintf(probe, sizeof probe, "%.*s.headrace-XXXXXX", slash ? (int)(slash - path) + 1 : 0, path);
	int fd = mkostemp(probe, O_CLOEXEC);
	if (fd < 0)
		return hr_cli_fail("The %s cannot be written to %s: %s.", what, path, strerror(errno));
	close(fd);
	unlink(probe);
	return HR_EXIT_OK;
}

/* $XDG_CACHE_HOME/headrace, or $HOME/.cache/headrace; NULL: nothing is kept. */
static const char *cache_directory(void)
{
	static char path[4096];
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	if (xdg && *xdg == '/')
		snprintf(path, sizeof path, "%s/headrace", xdg);
	else if (home && *home == '/')
		snprintf(path, sizeof path, "%s/.cache/headrace", home);
	return *path ? path : NULL;
}

char *hr_cli_read_card(const char *name)
{
	static const char *const places[] = {"../share/headrace/cards", "../cards", "cards"};
	char                     exe[2048], path[4096];
	ssize_t                  n = readlink("/proc/self/exe", exe, sizeof exe - 1);
	if (strchr(name, '/') || !access(name, R_OK) || n <= 0)
		return hr_cli_read_file(name, "card");
	exe[n] = 0;
	*strrchr(exe, '/') = 0;
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		snprintf(path, sizeof path, "%s/%s/%s.json", exe, places[i], name);
		if (!access(path, R_OK))
			return hr_cli_read_file(path, "card");
	}
	hr_cli_fail(
	    "There is no file and no card %s; the cards that come with Headrace are in share/headrace/cards.",
	    name);
	return NULL;
}

/* The text of a device map; NULL after saying why. What the modules are is for the library to judge. */
static char *read_device_map(const char *path)
{
	json_error_t where;
	char        *text = hr_cli_read_file(path, "device map");
	json_t      *map = text ? json_loads(text, 0, &where) : NULL;
	if (text && !json_is_object(map)) {
		if (map)
			hr_cli_fail("The device map %s is JSON but no object; write {\"model.layers.0\": 0, ...}.", path);
		else
			hr_cli_fail(
			    "The device map %s is not JSON, line %d, column %d: %s; write {\"model.layers.0\": 0, "
			    "...}.",
			    path, where.line, where.column, where.text);
		free(text);
		text = NULL;
	}
	json_decref(map);
	return text;
}

int hr_cli_resolve(struct hr_cli_options *o, char **map)
{
	o->plan.cache_dir = cache_directory();
	if (o->max_memory) {
		int code = apply_max_memory(o);
		if (code)
			return code;
	}
	if (o->device_map && strcmp(o->device_map, "auto")) {
		*map = read_device_map(o->device_map);
		if (!*map)
			return HR_EXIT_ERROR;
		o->plan.device_map = *map;
	}
	return o->trace  ? check_writable(o->trace, "trace")
	       : o->html ? check_writable(o->html, "page")
	                 : HR_EXIT_OK;
}
