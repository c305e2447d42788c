# The program, the header, both libraries, their .pc file, the manual page and the cards.
include(GNUInstallDirs)
install(TARGETS headrace RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS headrace_shared LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS headrace_archive ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/headrace DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY cards DESTINATION ${CMAKE_INSTALL_DATADIR}/headrace)

# What a static link needs besides; cuBLAS is loaded when a GPU is used.
set(HEADRACE_CUDA_LIBS)
if(HEADRACE_HAS_CUDA)
  set(HEADRACE_CUDA_LIBS " -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -lstdc++ -lrt -ldl")
endif()

# Configured while installing, because the prefix may be chosen then.
install(CODE "
  set(PROJECT_VERSION ${PROJECT_VERSION})
  set(CMAKE_INSTALL_LIBDIR ${CMAKE_INSTALL_LIBDIR})
  set(CMAKE_INSTALL_INCLUDEDIR ${CMAKE_INSTALL_INCLUDEDIR})
  set(HEADRACE_CUDA_LIBS \"${HEADRACE_CUDA_LIBS}\")
  configure_file(${CMAKE_SOURCE_DIR}/cmake/headrace.pc.in ${CMAKE_BINARY_DIR}/headrace.pc @ONLY)")
install(FILES ${CMAKE_BINARY_DIR}/headrace.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${CMAKE_BINARY_DIR}/headrace.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
