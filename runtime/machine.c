/* Names what the measured figures belong to. Anything that can't be found out is left out of the
 * name: two machines that differ in nothing that can be seen share their figures, until
 * they are measured again. */
#include "runtime/machine.h"

#include "base/text.h"
#include "base/topology.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#define XXH_STATIC_LINKING_ONLY /* the state is a variable */
#include <xxhash.h>

/* The first line of a file, its end trimmed; empty without one. */
static void read_line(const char *path, char line[128])
{
	FILE *f = fopen(path, "re");
	line[0] = 0;
	if (f) {
		if (!fgets(line, 128, f))
			line[0] = 0;
		fclose(f);
	}
	for (size_t n = strlen(line); n && (line[n - 1] == '\n' || line[n - 1] == ' '); n--)
		line[n - 1] = 0;
}

/* "8:16 VENDOR MODEL": the drive behind a file, or behind the partition that it is on. */
static void append_drive(char *key, size_t size, const struct hr_file *file)
{
	static const char *const places[] = {"device/model", "../device/model"};
	struct stat              st;
	struct statfs            fs;
	char                     path[128], name[128] = "";
	if (fstat(file->fd_buffered, &st) || fstatfs(file->fd_buffered, &fs))
		return;
	for (size_t i = 0; i < 2 && !*name; i++) {
		snprintf(path, sizeof path, "/sys/dev/block/%u:%u/%s", major(st.st_dev), minor(st.st_dev), places[i]);
		read_line(path, name);
	}
	hr__text_append(key, size, "; drive %u:%u%s%s, file system %lx%s", major(st.st_dev), minor(st.st_dev),
	                *name ? " " : "", name, (unsigned long)fs.f_type,
	                file->fd_direct < 0 ? ", not direct" : "");
}

/* What follows "NAME :" in the first line that begins so, of the first file that fits `pattern`. */
static void append_line(char *key, size_t size, const char *pattern, const char *name)
{
	glob_t found = {0};
	char   line[160], value[128];
	FILE  *f = !glob(pattern, 0, NULL, &found) && found.gl_pathc ? fopen(found.gl_pathv[0], "re") : NULL;
	while (f && fgets(line, sizeof line, f)) {
		if (!strncmp(line, name, strlen(name)) && sscanf(line + strlen(name), " : %127[^\n]", value) == 1) {
			hr__text_append(key, size, "; %s", value);
			break;
		}
	}
	if (f)
		fclose(f);
	globfree(&found);
}

void hr__machine_key(char *key, size_t size, const struct hr_model *model, const struct hr_plan_options *o,
                     const char *device)
{
	const char *reader =
	    o->reader && !strcmp(o->reader, "pread") ? "pread" : "uring or what stands in for it";
	const char *isa = o->cpu_isa ? o->cpu_isa : "auto";
	char        driver[128];
	key[0] = 0;
	hr__text_append(key, size, "headrace %s; %s; %d threads of %d, %s", hr_version(), device,
	                o->n_threads ? o->n_threads : hr_topology_n_cores(), hr_topology_n_cores(), isa);
	append_line(key, size, "/proc/cpuinfo", "model name");
	append_line(key, size, "/proc/driver/nvidia/gpus/*/information", "Model");
	read_line("/proc/driver/nvidia/version", driver);
	if (*driver)
		hr__text_append(key, size, "; driver %s", driver);
	hr__text_append(key, size, "; reader %s", reader);
	append_drive(key, size, &model->checkpoint.files[0]);
}

uint64_t hr__model_key(const struct hr_model *model)
{
	const struct hr_checkpoint *c = &model->checkpoint;
	XXH64_state_t               state;
	XXH64_reset(&state, 0);
	for (int i = 0; i < c->n_tensors; i++) {
		const struct hr_tensor *t = &c->tensors[i];
		XXH64_update(&state, t->name, strlen(t->name) + 1);
		XXH64_update(&state, t->shape, sizeof t->shape[0] * (size_t)t->n_dims);
		XXH64_update(&state, &t->offset, sizeof t->offset);
		XXH64_update(&state, &t->bytes, sizeof t->bytes);
	}
	return XXH64_digest(&state);
}
