/* Which machine this is, and which model: the keys of what was measured. */
#ifndef HR_RUNTIME_MACHINE_H
#define HR_RUNTIME_MACHINE_H

#include "runtime/model.h"

/* Everything that a rate depends on besides the model, in words: processor, device and driver,
 * threads, instruction set, reader, the drive and file system that hold the model's files.
 * `device`: its kind and name, "cpu Intel ...". */
void hr__machine_key(char *key, size_t size, const struct hr_model *model, const struct hr_plan_options *o,
                     const char *device);

/* Equal for files with the same tensors, wherever they lie. */
uint64_t hr__model_key(const struct hr_model *model);

#endif
