/* What a pass holds of the window; see hold.h. A piece is given back when another one is needed rather than
 * when its last product is under way, so that what is computed in between is counted as the layer's, too. */
#include "runtime/hold.h"

void hr__hold_init(struct hr_hold *h, struct hr_window *window, const struct hr_part *parts,
                   struct hr_error *err)
{
	*h = (struct hr_hold){.window = window, .parts = parts, .err = err, .layer = -1};
}

void hr__hold_end(struct hr_hold *h)
{
	if (h->layer >= 0)
		hr_window_release(h->window, h->layer);
	h->layer = -1;
}

int hr__hold_layer(struct hr_hold *h, int layer, void **weights)
{
	hr__hold_end(h);
	int rc = hr_window_acquire(h->window, layer, weights, h->err);
	h->told |= rc != 0;
	h->layer = rc ? -1 : layer;
	return rc;
}

static int take_piece(struct hr_hold *h, int piece)
{
	void *weights;
	if (piece) /* what is given back is no longer found */
		hr__part_place(&h->block, h->part, h->part->weights[piece - 1], NULL);
	int rc = hr__hold_layer(h, h->part->first_layer + piece, &weights);
	if (!rc)
		hr__part_place(&h->block, h->part, h->part->weights[piece], weights);
	return rc;
}

int hr__hold_block(struct hr_hold *h, int block)
{
	const struct hr_part *part = h->part = &h->parts[block];
	h->block = part->offsets;
	if (part->kept.n_extents)
		hr__part_place(&h->block, part, part->kept_weights, hr_window_resident(h->window, part->kept_layer));
	return take_piece(h, 0);
}

bool hr__hold_reaches(const struct hr_hold *h, enum hr_step step)
{
	return h->part->first_layer + h->part->piece_of[step] <= h->layer;
}

int hr__hold_step(struct hr_hold *h, enum hr_step step)
{
	return hr__hold_reaches(h, step) ? 0 : take_piece(h, h->part->piece_of[step]);
}

int hr__hold_rest(struct hr_hold *h)
{
	int rc = 0;
	for (int p = h->layer - h->part->first_layer + 1; p < h->part->n_pieces && !rc; p++)
		rc = take_piece(h, p);
	return rc;
}
