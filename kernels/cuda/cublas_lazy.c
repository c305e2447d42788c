/* cuBLAS is loaded when the CUDA operations are opened, not linked: it is half a gigabyte of
 * libraries, whose loading and relocation would cost every start of a program 0.15 seconds
 * (0.7 when they are not in memory yet), also where only the CPU computes or a version is asked for.
 *
 * The version is the one that this was compiled with. The loader looks for it where it looks
 * for all libraries, and then where the toolkit was when this was built. Once loaded it stays
 * until the process ends (RTLD_NODELETE). Functions are named as cublas_v2.h renames them
 * ("cublasCreate_v2"). */
#include "kernels/cuda/cublas_lazy.h"

#include "base/error.h"
#include "base/mem.h"

#include <dlfcn.h>
#include <stdio.h>

#ifndef HR_CUDA_LIBRARY_DIR
#define HR_CUDA_LIBRARY_DIR "/usr/local/cuda/lib64"
#endif
#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)
#define LIBRARY    "libcublas.so." TEXT(CUBLAS_VER_MAJOR)

/* NULL, with what the loader says of the name that users can do something about. */
static void *open_library(char *why, size_t capacity)
{
	int         flags = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE;
	void       *library = dlopen(LIBRARY, flags);
	const char *text = library ? NULL : dlerror();
	snprintf(why, capacity, "%s", text ? text : LIBRARY " was not found");
	return library ? library : dlopen(HR_CUDA_LIBRARY_DIR "/" LIBRARY, flags);
}

int hr__cublas_load(struct hr__cublas *out, struct hr_error *err)
{
	const struct {
		const char *name;
		void      **at;
	} functions[] = {
	    {TEXT(cublasGetStatusString), (void **)&out->status_string},
	    {TEXT(cublasCreate), (void **)&out->create},
	    {TEXT(cublasDestroy), (void **)&out->destroy},
	    {TEXT(cublasSetStream), (void **)&out->set_stream},
	    {TEXT(cublasSetWorkspace), (void **)&out->set_workspace},
	    {TEXT(cublasGemmEx), (void **)&out->gemm_ex},
	};
	char        why[512];
	const char *missing = NULL;
	void       *library = open_library(why, sizeof why);
	if (!library)
		return hr__fail(err, HR_EUNSUPPORTED,
		                "cuBLAS can't be loaded (%s); install the cuBLAS of CUDA %d, name its directory in "
		                "LD_LIBRARY_PATH, or use --device cpu.",
		                why, CUBLAS_VER_MAJOR);
	for (size_t i = 0; i < HR_COUNT_OF(functions) && !missing; i++)
		if (!(*functions[i].at = dlsym(library, functions[i].name)))
			missing = functions[i].name;
	dlclose(library);
	if (missing)
		return hr__fail(err, HR_EUNSUPPORTED,
		                "%s has no function %s; install the cuBLAS of CUDA %d, or use --device cpu.", LIBRARY,
		                missing, CUBLAS_VER_MAJOR);
	return 0;
}
