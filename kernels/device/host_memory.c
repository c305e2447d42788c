/* How much memory this process may still use.
 *
 * The machine's answer is MemTotal and MemAvailable of /proc/meminfo. A control
 * group may allow less: every group from the process's own up to the root has a
 * limit and a usage, and the tightest counts. Usage includes page cache, of
 * which the inactive part is given back under pressure and so counts as free.
 *
 * Version 2 groups are the line "0::PATH" of /proc/self/cgroup, version 1 the
 * line "N:memory:PATH". Within a container PATH may not be visible; walking up
 * then ends at the mount's root, which is the container's own group. Files
 * that are missing or say "max" limit nothing. */
#include "kernels/device/host_memory.h"

#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct group_files {
	const char *mount;
	const char *limit;
	const char *usage;
	const char *inactive; /* its line in memory.stat */
};

static const struct group_files version_2 = {"/sys/fs/cgroup", "memory.max", "memory.current",
                                             "inactive_file"};
static const struct group_files version_1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                             "memory.usage_in_bytes", "total_inactive_file"};

/* The number after `key` at the start of a line ("" for the first line). */
static bool read_number(const char *path, const char *key, uint64_t *out)
{
	char   line[256];
	bool   found = false;
	size_t key_len = strlen(key);
	FILE  *f = fopen(path, "re");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, key_len))
			continue;
		const char *digits = line + key_len + strspn(line + key_len, ": \t");
		found = isdigit((unsigned char)*digits);
		if (found)
			*out = strtoull(digits, NULL, 10);
		if (!key_len)
			break;
	}
	fclose(f);
	return found;
}

static bool read_group_number(const char *dir, const char *file, const char *key, uint64_t *out)
{
	char path[PATH_MAX];
	int  n = snprintf(path, sizeof(path), "%s/%s", dir, file);
	return n > 0 && (size_t)n < sizeof(path) && read_number(path, key, out);
}

static void limit_by_group(const char *dir, const struct group_files *files, struct hr__host_memory *m)
{
	uint64_t limit, usage = 0, inactive = 0;
	if (!read_group_number(dir, files->limit, "", &limit))
		return;
	read_group_number(dir, files->usage, "", &usage);
	read_group_number(dir, "memory.stat", files->inactive, &inactive);
	usage -= inactive < usage ? inactive : usage;
	uint64_t rest = usage < limit ? limit - usage : 0;
	if (limit < m->total_bytes)
		m->total_bytes = limit;
	if (rest < m->free_bytes)
		m->free_bytes = rest;
}

static void limit_by_groups(const char *root, const struct group_files *files, const char *group,
                            struct hr__host_memory *m)
{
	char dir[PATH_MAX];
	int  mount_len = snprintf(dir, sizeof(dir), "%s%s", root, files->mount);
	int  n = snprintf(dir, sizeof(dir), "%s%s%s", root, files->mount, group);
	if (n < 0 || (size_t)n >= sizeof(dir))
		return;
	for (;;) {
		limit_by_group(dir, files, m);
		char *slash = strrchr(dir, '/');
		if (!slash || slash < dir + mount_len)
			return;
		*slash = 0;
	}
}

void hr__host_memory_read_at(const char *root, struct hr__host_memory *out)
{
	char                   path[PATH_MAX], line[PATH_MAX];
	struct hr__host_memory m = {0};
	uint64_t               kib;

	snprintf(path, sizeof(path), "%s/proc/meminfo", root);
	if (read_number(path, "MemTotal:", &kib))
		m.total_bytes = kib * 1024;
	if (read_number(path, "MemAvailable:", &kib))
		m.free_bytes = kib * 1024;

	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;
		if (!group)
			continue;
		*names++ = 0;
		*group++ = 0;
		if (!strcmp(line, "0") && !*names)
			limit_by_groups(root, &version_2, group, &m);
		else if (!strcmp(names, "memory"))
			limit_by_groups(root, &version_1, group, &m);
	}
	if (f)
		fclose(f);
	*out = m;
}

void hr__host_memory_read(struct hr__host_memory *out) { hr__host_memory_read_at("", out); }
