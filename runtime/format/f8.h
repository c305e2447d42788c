/* 8-bit floats with scales, as Hugging Face directories have them. */
#ifndef HR_RUNTIME_F8_H
#define HR_RUNTIME_F8_H

#include "runtime/format/json.h"
#include "runtime/format/tensors.h"

/* Of the matrices that have a scale for each block. */
struct hr_f8_block {
	uint64_t rows, cols;
};

/* What config.json says about quantisation, if it does. HR_EUNSUPPORTED: anything but 8-bit floats, named. */
int hr__f8_read_config(struct hr_f8_block *out, const struct hr_json *config, struct hr_error *err);

/* Give each f8 tensor of `list` its scales, and take those, and the scales of what is no weight, off the
 * list. HR_EFORMAT: scales of another shape than [1], [rows, 1] or one for each block; HR_ENOMEM. `path` is
 * for messages. */
int hr__f8_attach_scales(struct hr_tensor_list *list, const struct hr_f8_block *block, const char *path,
                         struct hr_error *err);

/* Multiply row `row` of t, which has scales, as f32 by them: x[cols]. HR_EIO and the like. */
int hr__f8_scale_row(const struct hr_tensor *t, uint64_t row, float *x, uint64_t cols, struct hr_error *err);

#endif
