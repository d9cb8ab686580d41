"""Body models, and meshes drawn: what the body stage fits and the structure stage renders."""
