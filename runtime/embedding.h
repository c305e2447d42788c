/* The embedding, read by rows: a pass needs the rows of its tokens, not the matrix.
 *
 * When the matrix is not on the device, hr__embedding_fetch() reads the rows of a
 * pass from the file. It has a reader of its own, so that a few kilobytes do not
 * queue behind the megabytes that are being prefetched. */
#ifndef HR_RUNTIME_EMBEDDING_H
#define HR_RUNTIME_EMBEDDING_H

#include "io/hostmem.h"
#include "io/reader.h"
#include "runtime/model.h"

struct hr_embedding_rows;

/* Of the rows that are fetched: that of the matrix, or f32 where those of f8 are multiplied by their scales.
 */
static inline enum hr_type hr__embedding_row_type(const struct hr_model *m)
{
	enum hr_type type = m->embedding.weight.type;
	return type == HR_TYPE_F8_E4M3 ? HR_TYPE_F32 : type;
}

/* For passes of at most `n_max` tokens. */
int  hr__embedding_open(struct hr_embedding_rows **out, const struct hr_model *model, int n_max,
                        const struct hr_notice_sink *notices, struct hr_error *err);
void hr__embedding_close(struct hr_embedding_rows *e); /* NULL is fine */

/* Read the rows of ids[n] into `table`, dense, each once: ids[i] has row rows[i]. Blocks. Returns how many
 * rows. */
int hr__embedding_fetch(struct hr_embedding_rows *e, const int32_t *ids, int n, void *table, int32_t *rows,
                        struct hr_error *err);

#endif
