//! Virtual machines: registry, supervisor, hypervisor drivers, images.
