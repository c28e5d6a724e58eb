//! What a VM's supervisor and the agent inside it say to each other, without I/O.
