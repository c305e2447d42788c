/* Files of weights that are not read, each named with the way out: what a model is often
 * found as, and what is mistaken for one. Pickles are never opened: unpickling runs whatever
 * program they hold. */
#include "runtime/format/assemble.h"

#include "base/error.h"
#include "base/mem.h"

#include <dirent.h>
#include <fnmatch.h>

#define CONVERT(how)                                                                                         \
	"convert the model once, in Python: from transformers import AutoModel as M; "                           \
	"M.from_pretrained('DIRECTORY'" how                                                                      \
	").save_pretrained('NEW', safe_serialization=True), with the class that config.json "                    \
	"names under \"architectures\" for AutoModel, and copy the tokenizer's files."

static const struct {
	const char *pattern, *what; /* for its name; a sentence behind it */
} files[] = {
    {"adapter_model.*",
     "this is an adapter (LoRA) and no whole model; merge it into its base once, in Python: "
     "peft's merge_and_unload() and save_pretrained(), and give the result."},
    {"*.gguf", "this GGUF file describes a model by itself; give the file instead of its directory."},
    {"*.bin.index.json",
     "this lists pickled PyTorch files, which can run programs when they are loaded, so they are not "
     "read; " CONVERT("")},
    {"*.bin", "a pickled PyTorch file can run programs when it is loaded, so it is not read; " CONVERT("")},
    {"*.pt", "a pickled PyTorch file can run programs when it is loaded, so it is not read; " CONVERT("")},
    {"*.pth", "a pickled PyTorch file can run programs when it is loaded, so it is not read; " CONVERT("")},
    {"*.ckpt", "a pickled checkpoint can run programs when it is loaded, so it is not read; " CONVERT("")},
    {"*.pkl", "a pickled file can run programs when it is loaded, so it is not read; " CONVERT("")},
    {"*.h5", "TensorFlow's weights are not read; " CONVERT(", from_tf=True")},
    {"*.msgpack", "Flax's weights are not read; " CONVERT(", from_flax=True")},
    {"*.onnx", "ONNX graphs are not read; get the model's safetensors or a GGUF of it."},
    {"*.npz", "MLX's arrays are not read; get the original model's safetensors or a GGUF of it."},
    {"*.safetensors",
     "a safetensors file alone does not describe a model; give the directory that holds it "
     "together with config.json, as model.safetensors or as the shards of model.safetensors.index.json."},
};

static const char *explain(const char *name)
{
	for (size_t i = 0; i < HR_COUNT_OF(files); i++)
		if (fnmatch(files[i].pattern, name, 0) == 0)
			return files[i].what;
	return NULL;
}

int hr__refuse_foreign_file(const char *path, struct hr_error *err)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *what = explain(name);
	if (!what || fnmatch("*.gguf", name, 0) == 0)
		return 0;
	return hr__fail(err, HR_EUNSUPPORTED, "%s: %s", path, what);
}

/* Of several, the one that stands first in the table. */
int hr__refuse_foreign_directory(const char *path, struct hr_error *err)
{
	DIR           *directory = opendir(path);
	struct dirent *entry;
	size_t         best = HR_COUNT_OF(files);
	char           name[sizeof entry->d_name] = "";
	while (directory && (entry = readdir(directory)))
		for (size_t i = 0; i < best; i++)
			if (strcmp(entry->d_name, "training_args.bin") != 0 &&
			    fnmatch(files[i].pattern, entry->d_name, 0) == 0) {
				best = i;
				memcpy(name, entry->d_name, strlen(entry->d_name) + 1);
			}
	if (directory)
		closedir(directory);
	return *name ? hr__fail(err, HR_EUNSUPPORTED, "%s/%s: %s", path, name, files[best].what) : 0;
}
