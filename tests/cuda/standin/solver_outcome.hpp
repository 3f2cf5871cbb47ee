// Injected info of the next factorisation; 0: none.
#pragma once

namespace standin {

void set_next_info(int info);
int take_next_info();

}  // namespace standin
