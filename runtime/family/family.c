/* Which family a file belongs to. Every list of families that a user reads comes
 * from HR_FAMILIES. */
#include "runtime/family/family.h"

#include "base/error.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>

static const struct hr_family *const families[] = {
#define HR_X(name) &hr_family_##name,
    HR_FAMILIES(HR_X)
#undef HR_X
};

const struct hr_family *hr_family_of_name(const char *name)
{
	for (size_t i = 0; i < HR_COUNT_OF(families); i++)
		if (strcmp(families[i]->name, name) == 0)
			return families[i];
	return NULL;
}

const char *hr_family_gguf_arch(const struct hr_family *f)
{
	return f->gguf_arch ? f->gguf_arch : f->gguf_as;
}

/* A description to be read into. */
static struct hr_decoder begin(const struct hr_family *f)
{
	struct hr_decoder d = {.family = f,
	                       .has = {[HR_FFN_NORM] = HR_REQUIRED,
	                               [HR_ROPE_FACTORS] = HR_OPTIONAL,
	                               [HR_LONGROPE_FACTORS] = HR_OPTIONAL}};
	snprintf(d.hparams.family, sizeof d.hparams.family, "%s", f->name);
	return d;
}

static int finish(struct hr_decoder *d, const char *path, struct hr_error *err)
{
	struct hr_hparams *h = &d->hparams;
	int                rc = hr__decoder_check(d, path, err);
	if (h->rope_magnitude == 0)
		h->rope_magnitude = 1;
	if (h->embedding_scale == 0)
		h->embedding_scale = 1;
	if (h->attention_scale == 0)
		h->attention_scale = 1.0f / sqrtf((float)h->head_dim);
	return rc;
}

static int read_own_activation(const struct hr_gguf *g, const char *key, enum hr_activation *out,
                               struct hr_error *err)
{
	const char *name = NULL;
	int         rc = hr_gguf_get_string(g, key, &name, err);
	if (rc > 0 && !hr__activation_of_name(out, name))
		return hr__fail(err, HR_EUNSUPPORTED, "%s: the activation '%s' (%s) is not supported.", g->path, name,
		                key);
	return rc < 0 ? rc : 0;
}

static int read_own_keys(struct hr_hparams *h, const struct hr_gguf *g, struct hr_error *err)
{
	int rc = read_own_activation(g, HR_OWN_ACTIVATION, &h->activation, err);
	if (!rc)
		rc = read_own_activation(g, HR_OWN_CLASSIFIER_ACTIVATION, &h->dense_activation, err);
	if (!rc)
		rc = hr_gguf_get_bool(g, HR_OWN_NORM_AFTER, &h->norm_after, err);
	return rc < 0 ? rc : 0;
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
		struct hr_decoder got = begin(f);
		got.tied_by_tensors = true;
		rc = f->from_gguf(&got, g, err);
		if (!rc)
			rc = read_own_keys(&got.hparams, g, err);
		if (!rc)
			rc = finish(&got, g->path, err);
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

static bool has_architecture(const struct hr_family *f, const char *name)
{
	for (size_t i = 0; i < HR_COUNT_OF(f->hf_architectures) && f->hf_architectures[i]; i++)
		if (strcmp(f->hf_architectures[i], name) == 0)
			return true;
	return false;
}

static int fail_architecture(const struct hr_family *f, const char *path, const char *name,
                             struct hr_error *err)
{
	char   list[256] = "";
	size_t used = 0;
	for (size_t i = 0; i < HR_COUNT_OF(f->hf_architectures) && f->hf_architectures[i]; i++)
		used +=
		    (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", f->hf_architectures[i]);
	return hr__fail(err, HR_EUNSUPPORTED,
	                "%s: the architecture %s is not supported; of the family '%s' %s %s.", path, name,
	                f->name, list, f->hf_architectures[1] ? "are" : "alone is");
}

int hr_family_from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	const char *type, *architecture;
	int         rc = read_hf_name(config, &type, &architecture, err);
	if (rc)
		return rc;
	for (size_t i = 0; i < HR_COUNT_OF(families); i++) {
		const struct hr_family *f = families[i];
		if (!f->hf_model_type ||
		    (type ? strcmp(f->hf_model_type, type) != 0 : !has_architecture(f, architecture)))
			continue;
		if (architecture && !has_architecture(f, architecture))
			return fail_architecture(f, config->path, architecture, err);
		struct hr_decoder got = begin(f);
		rc = f->from_hf(&got, config, err);
		if (!rc)
			rc = finish(&got, config->path, err);
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
