/* Finds a GPU and says in a sentence why there is none, for that is what people
 * meet first. The runtime is linked statically and looks for the driver itself,
 * so a program that has CUDA starts on machines that don't. */
#include "kernels/device/device_cuda_find.h"

#include "base/error.h"
#include "kernels/device/device_cuda.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#define NVIDIA_VENDOR 0x10de
#define OLDEST_MAJOR  8 /* compute capability that kernels are built for */

static int version_major(int version) { return version / 1000; }
static int version_minor(int version) { return version % 1000 / 10; }

static int explain(cudaError_t error, struct hr_error *err)
{
	int driver = 0, runtime = 0;
	cudaGetLastError();
	cudaDriverGetVersion(&driver);
	cudaRuntimeGetVersion(&runtime);
	cudaGetLastError();
	if (!driver)
		return hr__fail(err, HR_EUNSUPPORTED,
		                "No NVIDIA driver was found on this machine; install one to use its GPU, or use "
		                "--device cpu.");
	if (error == cudaErrorInsufficientDriver)
		return hr__fail(err, HR_EUNSUPPORTED,
		                "The NVIDIA driver is too old: it knows CUDA %d.%d, and this program needs %d.%d; "
		                "update the driver, or use --device cpu.",
		                version_major(driver), version_minor(driver), version_major(runtime),
		                version_minor(runtime));
	if (error == cudaErrorNoDevice)
		return hr__fail(err, HR_EUNSUPPORTED,
		                "The NVIDIA driver shows no GPU; see whether nvidia-smi lists one and "
		                "CUDA_VISIBLE_DEVICES hides it, or use --device cpu.");
	return hr__fail(err, HR_EDEVICE,
	                "CUDA could not be started: %s (%s); try nvidia-smi, or use --device cpu.",
	                cudaGetErrorString(error), cudaGetErrorName(error));
}

int hr__cuda_find(int ordinal, struct cudaDeviceProp *out, struct hr_error *err)
{
	int         n = 0;
	cudaError_t error = cudaGetDeviceCount(&n);
	if (!error && !n)
		error = cudaErrorNoDevice;
	if (error)
		return explain(error, err);
	if (ordinal < 0 || ordinal >= n)
		return hr__fail(err, HR_EINVAL,
		                "Device cuda:%d was asked for, but there %s %d (from cuda:0); CUDA_VISIBLE_DEVICES "
		                "may hide others.",
		                ordinal, n == 1 ? "is only" : "are only", n);
	error = cudaGetDeviceProperties(out, ordinal);
	if (error)
		return explain(error, err);
	if (out->major < OLDEST_MAJOR)
		return hr__fail(err, HR_EUNSUPPORTED,
		                "GPU %s (cuda:%d) has compute capability %d.%d, and the kernels need %d.0 or newer; "
		                "use --device cpu.",
		                out->name, ordinal, out->major, out->minor, OLDEST_MAJOR);
	return 0;
}

/* A number out of directory/device/name; 0 when there is none. */
static unsigned long read_number(const char *directory, const char *device, const char *name)
{
	char path[512], text[32] = "";
	snprintf(path, sizeof path, "%s/%s/%s", directory, device, name);
	FILE *f = fopen(path, "re");
	if (!f)
		return 0;
	if (!fgets(text, sizeof text, f))
		text[0] = 0;
	fclose(f);
	return strtoul(text, NULL, 0);
}

bool hr__cuda_card_in(const char *directory)
{
	bool found = false;
	DIR *pci = opendir(directory);
	for (struct dirent *entry; pci && !found && (entry = readdir(pci));)
		found = read_number(directory, entry->d_name, "vendor") == NVIDIA_VENDOR &&
		        read_number(directory, entry->d_name, "class") >> 16 == 0x03; /* display controllers */
	if (pci)
		closedir(pci);
	return found;
}

bool hr_device_cuda_expected(void)
{
	int driver = 0;
	if (cudaDriverGetVersion(&driver))
		cudaGetLastError();
	return driver || hr__cuda_card_in("/sys/bus/pci/devices");
}
