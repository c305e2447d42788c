/* Which family a file belongs to. Every list of families that a user reads comes
 * from HR_FAMILIES. */
#include "runtime/family/family.h"

#include "base/error.h"
#include "base/mem.h"

#include <stdio.h>

static const struct hr_family *const families[] = {
#define HR_X(name) &hr_family_##name,
    HR_FAMILIES(HR_X)
#undef HR_X
};

static int finish(struct hr_decoder *d, const struct hr_family *f, const char *path, struct hr_error *err)
{
	snprintf(d->hparams.family, sizeof d->hparams.family, "%s", f->name);
	return hr__decoder_check(d, path, err);
}

int hr_family_from_gguf(struct hr_decoder *d, const struct hr_gguf *g, struct hr_error *err)
{
	const char *arch = NULL;
	int         rc = hr_gguf_get_string(g, "general.architecture", &arch, err);
	if (rc < 0)
		return rc;
	if (rc == 0)
		return hr__fail(
		    err, HR_EFORMAT,
		    "%s: the key general.architecture is missing, so there is no telling what model this is.",
		    g->path);
	for (size_t i = 0; i < HR_COUNT_OF(families); i++) {
		const struct hr_family *f = families[i];
		if (!f->gguf_arch || strcmp(f->gguf_arch, arch) != 0)
			continue;
		struct hr_decoder got = {.tied_by_tensors = true};
		rc = f->from_gguf(&got, g, err);
		if (!rc)
			rc = finish(&got, f, g->path, err);
		if (!rc)
			*d = got;
		return rc;
	}
	return hr__fail(err, HR_EUNSUPPORTED, "%s: the model family '%s' is not supported; supported are %s.",
	                g->path, arch, hr_family_list());
}

/* model_type where there is one, else the first of "architectures". */
static int read_hf_name(const struct hr_json *config, const char **type, const char **architecture,
                        struct hr_error *err)
{
	*type = *architecture = NULL;
	int rc = hr__json_string(config, "model_type", type, err);
	if (rc < 0)
		return rc;
	*architecture = json_string_value(json_array_get(json_object_get(config->object, "architectures"), 0));
	if (!*type && !*architecture)
		return hr__fail(err, HR_EFORMAT,
		                "%s: neither \"model_type\" nor \"architectures\" says what model this is.",
		                config->path);
	return 0;
}

int hr_family_from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	const char *type, *architecture;
	int         rc = read_hf_name(config, &type, &architecture, err);
	if (rc)
		return rc;
	for (size_t i = 0; i < HR_COUNT_OF(families); i++) {
		const struct hr_family *f = families[i];
		if (type ? strcmp(f->hf_model_type, type) != 0 : strcmp(f->hf_architecture, architecture) != 0)
			continue;
		if (architecture && strcmp(f->hf_architecture, architecture) != 0)
			return hr__fail(err, HR_EUNSUPPORTED,
			                "%s: the architecture %s is not supported; of the family '%s' it is %s alone.",
			                config->path, architecture, f->name, f->hf_architecture);
		struct hr_decoder got = {0};
		rc = f->from_hf(&got, config, err);
		if (!rc)
			rc = finish(&got, f, config->path, err);
		if (!rc)
			*d = got;
		return rc;
	}
	return hr__fail(err, HR_EUNSUPPORTED, "%s: the model family '%s' is not supported; supported are %s.",
	                config->path, type ? type : architecture, hr_family_list());
}

const char *hr_family_list(void)
{
#define HR_X(name) ", " #name
	static const char list[] = HR_FAMILIES(HR_X);
#undef HR_X
	return list + 2;
}
