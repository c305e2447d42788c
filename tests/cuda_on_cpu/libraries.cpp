/* dlopen() and dlsym() as the product's users of NVML and cuBLAS see them: the two libraries are
 * there unless the machine says that they are not. */
#include "layer.h"

#include <cstring>

using namespace cuda_on_cpu;

using Functions = void *(const char *name);

extern "C" void *cuda_on_cpu_dlopen(const char *path, int)
{
	static Functions *nvml = nvml_function, *cublas = cublas_function;
	if (strstr(path, "libnvidia-ml.so."))
		return machine().is.no_nvml ? nullptr : &nvml;
	if (strstr(path, "libcublas.so."))
		return machine().is.no_cublas ? nullptr : &cublas;
	return nullptr;
}

extern "C" int cuda_on_cpu_dlclose(void *) { return 0; }

extern "C" void *cuda_on_cpu_dlsym(void *library, const char *name) { return (*(Functions **)library)(name); }
