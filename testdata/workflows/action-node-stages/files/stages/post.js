const { INPUT_NAME, STATE_kept, LATER, FROM_STEP } = process.env;
console.log(`post of ${INPUT_NAME}: ${STATE_kept}, ${process.env["STATE_old way"]}, ${LATER}, ${FROM_STEP}`);
